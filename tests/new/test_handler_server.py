"""Archives of the real torch-model-archiver in the server, and handlers in processes of their own."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import shutil
import signal
import struct
import subprocess
import termios
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY, until
from tests.new.handlers import ONES, Server, archive, sample_library, serving
from tests.new.server_tools import built

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.cmake
TINY = REPOSITORY / "templates/loader/tiny.pt"
ANSWER = [2.5, -0.75]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program."""
    return built(tmp_path_factory) / "project/build/server"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The handler of these tests."""
    return sample_library(tmp_path_factory)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The directory of models, with one that has no handler."""
    directory = tmp_path / "models"
    directory.mkdir()
    shutil.copy(TINY, directory / "plain.pt")
    return directory


@pytest.fixture
def own(models: Path, library: Path) -> Path:
    """An archive with the library in it."""
    shutil.copy(library, models)
    file = archive(models, "own", "libsample_handler:SampleHandler")
    (models / library.name).unlink()
    return file


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where the server unpacks."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    return directory


@pytest.fixture
def running(server: Path, models: Path, own: Path, scratch: Path) -> Iterator[Server]:
    """A server with the archive `own`; a request may take ten seconds."""
    assert own.parent == models
    with serving(server, models, scratch, "--timeout", "10") as it:
        yield it


def state(pid: int) -> str:
    """The letter of a process's state in proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def unread(pid: int) -> int:
    """How many bytes the server has sent to a handler's process (descriptor 3) that it has not read."""
    pidfd = os.pidfd_open(pid)
    system = ctypes.CDLL(None, use_errno=True)
    copy = system.syscall(438, pidfd, 3, 0)  # pidfd_getfd
    assert copy >= 0, os.strerror(ctypes.get_errno())
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(copy, termios.FIONREAD, bytes(4)))
        return int(count)
    finally:
        os.close(copy)
        os.close(pidfd)


def answered(reply: tuple[int, str]) -> list[float]:
    """The elements of the tensor that was answered."""
    status, body = reply
    assert status == 200, body
    elements: list[float] = json.loads(body)["value"]
    return elements


@pytest.mark.parametrize("form", ["default", "zip-store"])
def test_the_archivers_default_handler(server: Path, models: Path, scratch: Path, form: str) -> None:
    """Is served under the name in the manifest, whatever the file is called, and nothing unpacked is left."""
    archive(models, "real-name", "TorchScriptHandler", "--archive-format", form).rename(models / "other.mar")
    with serving(server, models, scratch) as it:
        assert answered(it.predict("real-name")) == ANSWER
        assert it.predict("other")[0] == 404
        assert it.request("/v2/models/real-name")[0] == 200
        assert not list(scratch.iterdir())
        assert not it.workers()


def test_an_archive_with_its_library(running: Server) -> None:
    """JSON as for any model, the handler's own bodies, the Open Inference Protocol, errors of both sides."""
    assert answered(running.predict("own")) == ANSWER
    status, text = running.predict("own", "version")
    assert (status, text.split()[0]) == (200, "version-1")
    assert int(text.split()[1]) in running.workers()
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 1, 1, 1]}
    metadata = json.loads(running.request("/v2/models/own")[1])
    tensor["name"] = metadata["inputs"][0]["name"]
    status, text = running.request("/v2/models/own/infer", {"inputs": [tensor]})
    assert status == 200, text
    assert json.loads(text)["outputs"][0]["data"] == ANSWER
    for body, expected in (("throw", 500), ("refuse", 400)):
        status, text = running.predict("own", body)
        assert status == expected
        assert {"throw": "on demand", "refuse": "not this"}[body] in json.loads(text)["error"]
    for wrong in ([], [{"type": "tensor"}], {"no": "array"}, [*ONES, *ONES], [{**ONES[0], "shape": [4, 1]}]):
        assert running.predict("own", wrong)[0] == 400, wrong
    assert answered(running.predict("own")) == ANSWER


def test_compiled_models(
    server: Path, models: Path, library: Path, scratch: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """AOTInductor's packages, with the archiver's default handler and with one of their own."""
    package = built(tmp_path_factory) / "models/compiled.pt2"
    shutil.copy(library, models)
    archive(models, "without", "TorchScriptHandler", model=package)
    archive(models, "with", "libsample_handler:SampleHandler", model=package)
    with serving(server, models, scratch) as it:
        body = [{**ONES[0], "shape": [2, 3], "value": [1, 1, 1, 2, 2, 2]}]
        expected = answered(it.predict("without", body))
        assert len(expected) == 4
        assert answered(it.predict("with", body)) == expected
        for name in ("without", "with"):
            status, text = it.predict(name, ONES)
            assert 400 <= status < 500, text
            assert it.predict(name, [])[0] == 400
        assert len(it.workers()) == 1


def test_a_model_that_the_handler_cannot_load(
    server: Path, models: Path, library: Path, scratch: Path
) -> None:
    """Is a 422 with libtorch's reason, and leaves nothing."""
    shutil.copy(library, models)
    (models / "text.pt").write_text("no model")
    archive(models, "bad", "libsample_handler:SampleHandler", model=models / "text.pt")
    with serving(server, models, scratch) as it:
        status, text = it.predict("bad")
        assert status == 422
        assert "the handler failed: PytorchStreamReader failed" in json.loads(text)["error"]
        until(lambda: not it.workers() and not list(scratch.iterdir()))


def test_a_crash_is_its_own_process(running: Server) -> None:
    """The request is answered 500, another process starts by itself, and other models notice nothing."""
    first = running.predict("own", "version")[1].split()[1]
    status, text = running.predict("own", "crash")
    assert status == 500
    assert "signal 11" in json.loads(text)["error"]
    until(lambda: running.workers() - {int(first)})
    assert answered(running.predict("plain")) == ANSWER
    second = running.predict("own", "version")[1].split()[1]
    assert second != first


@pytest.mark.parametrize("asked", [False, True])
def test_a_process_killed_before_it_reads_a_request(running: Server, *, asked: bool) -> None:
    """Another one answers, whether or not the request was already sent to it."""
    first = int(running.predict("own", "version")[1].split()[1])
    replies: list[tuple[int, str]] = []
    thread = threading.Thread(target=lambda: replies.append(running.predict("own", "version")))
    if asked:
        os.kill(first, signal.SIGSTOP)
        until(lambda: state(first) == "T")
        thread.start()
        until(lambda: unread(first))
    os.kill(first, signal.SIGKILL)
    if not asked:
        until(lambda: state(first) == "Z")
        thread.start()
    thread.join()
    assert replies[0][0] == 200, replies
    assert int(replies[0][1].split()[1]) != first


def test_a_hang_ends_with_the_time_limit(running: Server) -> None:
    """Meanwhile other models answer; then a new process does."""
    first = running.predict("own", "version")[1].split()[1]
    replies = []
    waiting = threading.Thread(target=lambda: replies.append(running.predict("own", "hang")))
    waiting.start()
    while waiting.is_alive():
        assert answered(running.predict("plain")) == ANSWER
    waiting.join()
    assert replies[0][0] == 408
    until(lambda: running.workers() and int(first) not in running.workers())
    assert running.predict("own", "version")[0] == 200


def test_several_processes_answer_at_once(server: Path, models: Path, own: Path, scratch: Path) -> None:
    """Up to --workers, started when requests wait."""
    with serving(server, models, scratch, "--workers", "2") as it:
        it.predict(own.stem, "version")
        assert len(it.workers()) == 1
        replies: list[str] = []
        threads = [
            threading.Thread(target=lambda: replies.append(it.predict("own", "slow")[1])) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({reply.split()[1] for reply in replies}) == 2
        assert len(it.workers()) == 2


def asked_meanwhile(it: Server, name: str, change: Callable[[], object], until_answer: str) -> None:
    """Ask a handler all the time while it is replaced: no request fails, and the new one answers."""
    wrong: list[tuple[int, str]] = []
    seen = threading.Event()

    def ask() -> None:
        while not seen.is_set():
            status, text = it.predict(name, "version")
            if status != 200:
                wrong.append((status, text))
            if text.startswith(until_answer):
                seen.set()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    change()
    try:
        until(lambda: seen.is_set() or wrong, 60)
    finally:
        seen.set()
        for thread in threads:
            thread.join()
    assert not wrong


def second_version(library: Path, to: Path) -> None:
    """Write the library with another answer in it, over what is there."""
    first = library.read_bytes()
    assert first.count(b"version-1") == 1
    to.write_bytes(first.replace(b"version-1", b"version-2"))


def test_a_library_of_the_servers_is_replaced_while_requests_run(
    server: Path, models: Path, library: Path, scratch: Path, tmp_path: Path
) -> None:
    """Written over in place, the worst way."""
    handlers = tmp_path / "handlers"
    handlers.mkdir()
    shutil.copy(library, models)
    file = archive(models, "shared", "libsample_handler:SampleHandler")
    with zipfile.ZipFile(file) as whole, zipfile.ZipFile(models / "without.mar", "w") as less:
        for name in set(whole.namelist()) - {library.name}:
            less.writestr(name, whole.read(name))
    file.unlink()
    with serving(server, models, scratch, "--handlers", handlers) as it:
        status, text = it.predict("shared")
        assert status == 422
        assert "libsample_handler.so" in json.loads(text)["error"]
        shutil.copy(library, handlers)
        asked_meanwhile(it, "shared", lambda: None, "version-1")
        old = it.workers()
        asked_meanwhile(it, "shared", lambda: second_version(library, handlers / library.name), "version-2")
        until(lambda: not old & it.workers())
        (handlers / library.name).write_text("broken")

        def refused() -> bool:
            status, text = it.predict("shared")
            return status == 422 and "libsample_handler.so is not a shared library" in text

        until(refused)
        shutil.copy(library, handlers)
        until(lambda: it.predict("shared")[0] == 200)


def test_an_archive_is_replaced_while_requests_run(
    server: Path, models: Path, own: Path, library: Path, scratch: Path, tmp_path: Path
) -> None:
    """By another file under its name; the old one's process ends when it has answered."""
    second_version(library, tmp_path / library.name)
    other = archive(tmp_path, "own", "libsample_handler:SampleHandler")
    with serving(server, models, scratch) as it:
        assert it.predict("own", "version")[1].startswith("version-1")
        old = it.workers()
        slow: list[tuple[int, str]] = []
        thread = threading.Thread(target=lambda: slow.append(it.predict("own", "slow")))
        thread.start()
        asked_meanwhile(it, "own", lambda: other.replace(own), "version-2")
        thread.join()
        assert slow[0][0] == 200
        until(lambda: not old & it.workers())


def test_an_accepted_request_is_answered_at_the_end(running: Server, scratch: Path) -> None:
    """Also where a service manager signals every process of the service."""
    running.predict("own", "version")
    replies: list[tuple[int, str]] = []
    thread = threading.Thread(target=lambda: replies.append(running.predict("own", "slow")))
    thread.start()
    (worker,) = running.workers()
    until(lambda: list(scratch.rglob("slow")))
    os.kill(worker, signal.SIGTERM)
    assert running.stop() == 0
    thread.join()
    assert replies[0][0] == 200, replies
    assert not Path(f"/proc/{worker}").exists()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left(server: Path, models: Path, own: Path, scratch: Path, end: signal.Signals) -> None:
    """No process, even of a handler that hangs; no file, at the latest when the next server unpacks."""
    with serving(server, models, scratch) as it:
        it.predict(own.stem, "version")
        workers = it.workers()
        assert workers
        if end == signal.SIGKILL:

            def hang() -> None:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    it.predict("own", "hang")

            hanging = threading.Thread(target=hang)
            hanging.start()
            until(lambda: all("S" in Path(f"/proc/{pid}/stat").read_text().split() for pid in workers))
        it.process.send_signal(end)
        code = it.process.wait(timeout=60)
        assert code == (0 if end == signal.SIGTERM else -signal.SIGKILL)
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    if end == signal.SIGTERM:
        assert not list(scratch.iterdir())
        return
    hanging.join()
    (left,) = scratch.iterdir()
    with serving(server, models, scratch) as it:
        it.predict(own.stem, "version")
        assert not left.exists()
        it.stop()


def write(file: Path, entries: dict[str, bytes | str], **manifest: object) -> None:
    """An archive with any content; without `model` in the manifest that of a good one."""
    model = {"modelName": file.stem, "serializedFile": "model.pt", "handler": "TorchScriptHandler"}
    table = {"runtime": "LSP", "model": model, **manifest}
    files: dict[str, bytes | str] = {
        "model.pt": TINY.read_bytes(),
        "MAR-INF/MANIFEST.json": json.dumps(table),
    }
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archived:
        for name, content in {**files, **entries}.items():
            archived.writestr(name, content)


def link(file: Path) -> None:
    """An archive with a symbolic link, and a file below it."""
    write(file, {})
    with zipfile.ZipFile(file, "a") as archived:
        entry = zipfile.ZipInfo("out")
        entry.create_system = 3
        entry.external_attr = 0o120777 << 16
        archived.writestr(entry, "/tmp")
        archived.writestr("out/escaped", "x")


def twice(file: Path) -> None:
    """An archive with two manifests."""
    write(file, {})
    with zipfile.ZipFile(file, "a") as archived, pytest.warns(UserWarning, match="Duplicate name"):
        archived.writestr("MAR-INF/MANIFEST.json", "{}")


def damaged(file: Path) -> None:
    """An archive whose model has other bytes than its checksum says."""
    with zipfile.ZipFile(file, "w") as archived:
        archived.writestr("model.pt", b"A" * 1000)
        model = {"modelName": file.stem, "serializedFile": "model.pt", "handler": "TorchScriptHandler"}
        archived.writestr("MAR-INF/MANIFEST.json", json.dumps({"runtime": "LSP", "model": model}))
    file.write_bytes(file.read_bytes().replace(b"AAAA", b"BBBB", 1))


def model(**changes: object) -> dict[str, object]:
    """The manifest's table of a model, changed."""
    return {"modelName": "bad", "serializedFile": "model.pt", "handler": "TorchScriptHandler", **changes}


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "not-a-zip": (lambda file: file.write_text("text"), "is not a zip file"),
    "empty": (lambda file: file.write_bytes(b""), "is not a zip file"),
    "no-manifest": (lambda file: zipfile.ZipFile(file, "w").close(), ""),
    "parent": (lambda file: write(file, {"../escaped": "x"}), "not a plain relative path"),
    "inner-parent": (lambda file: write(file, {"a/../../escaped": "x"}), "not a plain relative path"),
    "absolute": (lambda file: write(file, {"/tmp/escaped": "x"}), "not a plain relative path"),
    "backslash": (lambda file: write(file, {"..\\escaped": "x"}), "not a plain relative path"),
    "symlink": (link, "link or a device"),
    "bomb": (lambda file: write(file, {"zeros": bytes(600 << 20)}), "unpacks to more than"),
    "two-manifests": (twice, "two files with the name"),
    "damaged": (damaged, "is damaged"),
    "not-json": (lambda file: write(file, {"MAR-INF/MANIFEST.json": "{"}), "not a JSON object"),
    "a-list": (lambda file: write(file, {"MAR-INF/MANIFEST.json": "[]"}), "not a JSON object"),
    "no-model": (lambda file: write(file, {}, model=None), 'without "model"'),
    "name-type": (lambda file: write(file, {}, model=model(modelName=1)), "is not a string"),
    "handler-type": (lambda file: write(file, {}, model=model(handler=["x"])), "is not a string"),
    "no-handler": (lambda file: write(file, {}, model=model(handler=None)), 'without "handler"'),
    "runtime": (lambda file: write(file, {}, runtime="python"), "--runtime LSP"),
    "outside": (lambda file: write(file, {}, model=model(serializedFile="../plain.pt")), "has no file"),
    "missing": (lambda file: write(file, {}, model=model(serializedFile="other.pt")), "has no file"),
    "handler-path": (lambda file: write(file, {}, model=model(handler="../x:Y")), "is not of the form"),
    "handler-name": (
        lambda file: write(file, {}, model=model(handler="image_classifier")),
        "is not of the form",
    ),
    "no-library": (
        lambda file: write(file, {}, model=model(handler="libx_handler:XHandler")),
        "neither in the archive",
    ),
    "library": (
        lambda file: write(file, {"libx_handler.so": "text"}, model=model(handler="libx_handler:XHandler")),
        "libx_handler.so is not a shared library",
    ),
    "model": (lambda file: write(file, {"model.pt": "text"}), ""),
}


def test_hostile_archives(server: Path, models: Path, scratch: Path) -> None:
    """Each is a 4xx with a reason in JSON; nothing is written outside, and nothing stays."""
    with serving(server, models, scratch) as it:
        for name, (make, expected) in HOSTILE.items():
            file = models / "bad.mar"
            make(file)
            status, text = it.predict("bad")
            assert 400 <= status < 500, (name, status, text)
            assert expected in json.loads(text)["error"], (name, text)
            status, text = it.request("/serve?servable_identifier=bad.mar", ONES)
            assert 400 <= status < 500, (name, status, text)
            file.unlink()
            until(lambda: not list(scratch.iterdir()))
        assert answered(it.predict("plain")) == ANSWER
    assert not list(scratch.parent.rglob("escaped"))
    assert not Path("/tmp/escaped").exists()


def test_a_mismatch_is_an_error_that_names_both_sides(
    server: Path, models: Path, torch_root: Path, scratch: Path
) -> None:
    """And not an undefined symbol."""
    source = models / "old.cpp"
    source.write_text('#include "handler_note.h"\nHANDLER_NOTE(OldHandler);\n')
    words = ["c++", "-shared", "-fPIC", "-D_GLIBCXX_USE_CXX11_ABI=0", f"-I{torch_root}/include"]
    parts = (".", "torch/csrc/api/include")
    own = REPOSITORY / "examples/server/src/handlers"
    include = [*(f"-I{torch_root}/include/{part}" for part in parts), f"-I{own}"]
    subprocess.run(
        [*words, *include, "old.cpp", "-o", "libold_handler.so"], cwd=models, check=True, timeout=60
    )
    archive(models, "old", "libold_handler:OldHandler")
    with serving(server, models, scratch) as it:
        status, text = it.predict("old")
        assert status == 422
        error = json.loads(text)["error"]
        assert "libold_handler.so does not fit this program: the C++ ABI" in error
        assert "C++ ABI 0" in error
        assert "C++ ABI 1" in error
        assert not it.workers()
