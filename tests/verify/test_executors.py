"""`--executor`: models run by dask's workers or by any executor, one of whose processes is killed in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import torchlink as api
from tests.conftest import needed, until
from torchlink import __version__
from torchlink.errors import ExecutorError, FileError, LibtorchDiffersError
from torchlink.paths import data_dir
from torchlink.verify.options import VerifyOptions
from torchlink.verify.remote.identity import identity_of
from torchlink.verify.remote.units import LARGEST, SEND, SHARED, Unit, anchored, packed
from torchlink.verify.remote.worker import work
from torchlink.verify.tasks import ModelTask

torch = needed("torch")

from torch import Tensor, nn  # noqa: E402 - needs torch

from tests.verify.small_models import save  # noqa: E402 - needs torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Result

pytestmark = pytest.mark.compile
TINY = data_dir("templates") / "loader" / "tiny.pt"
THREADS = "concurrent.futures:ThreadPoolExecutor"
FACTORY = """
import os, pathlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

def note(directory):
    pathlib.Path(directory, str(os.getpid())).touch()

def make():
    context = get_context("spawn")
    return ProcessPoolExecutor(2, context, note, (os.environ["NOTED_IN"],))

def no_executor():
    return 3

def failing():
    raise RuntimeError("no license")
"""
TIMES = re.compile(
    r'"(load_ms|forward_ms|seconds|peak_rss_mb|compile_seconds)": [\d.e+-]+|"again_ms": \[[^]]*\]'
)


class Slow(nn.Module):
    """Takes a good part of a second."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(60000):
            x = x * 0.5 + 1
        return x


@pytest.fixture(scope="module")
def slow_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("slow")
    first = save(Slow(), directory / "0.pt")
    for number in range(1, 8):
        shutil.copy(first, directory / f"{number}.pt")
    return directory


class Cluster:
    """A scheduler with two workers, each a process."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "scheduler.json"
        self._directory = directory
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self.address = ""
        until(self._read_address)
        self.workers = [
            self._start(
                "worker",
                *("--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", f"w{number}"),
                *("--local-directory", str(directory / f"w{number}")),
            )
            for number in range(2)
        ]
        import distributed

        with distributed.Client(self.address, timeout=120, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=120)

    def _read_address(self) -> bool:
        try:
            self.address = str(json.loads(self._file.read_text())["address"])
        except (OSError, ValueError):  # not written yet, or not whole
            return False
        return True

    def _start(self, what: str, *options: str) -> subprocess.Popen[bytes]:
        words = ["-m", f"distributed.cli.dask_{what}", "--scheduler-file", str(self._file), *options]
        with (self._directory / f"{what}.log").open("ab") as log:
            return subprocess.Popen([sys.executable, *words], stdout=log, stderr=log, cwd=self._directory)

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    needed("distributed")
    directory = tmp_path / "dask"
    directory.mkdir()
    started = Cluster(directory)
    yield started
    started.stop()


def results(
    models: Path,
    torch_root: Path,
    *options: str,
    after_first: Callable[[], object],
    code: int = 0,
    **variables: str,
) -> list[dict[str, Any]]:
    """Run verify with an executor, do something once the first model is done, and return all models' records."""
    words = [sys.executable, "-m", "torchlink", "verify", models, "--libtorch", torch_root, "--jsonl", "-"]
    records: list[dict[str, Any]] = []
    with subprocess.Popen(
        [*map(str, words), *options], stdout=subprocess.PIPE, text=True, env={**os.environ, **variables}
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            record = json.loads(line)
            if record["event"] == "model":
                if not records:
                    after_first()
                records.append(record)
    assert process.returncode == code, records
    return records


def test_models_of_a_killed_dask_worker_run_on_the_other(
    cluster: Cluster, slow_models: Path, torch_root: Path
) -> None:
    def kill() -> None:
        cluster.workers[0].kill()
        cluster.workers[0].wait()

    found = results(slow_models, torch_root, "--executor", f"dask={cluster.address}", after_first=kill)
    assert sorted(record["number"] for record in found) == list(range(8))
    assert all(record["ok"] for record in found)
    assert cluster.workers[1].poll() is None


def test_a_scheduler_that_is_gone_leaves_no_model_out(
    cluster: Cluster, slow_models: Path, torch_root: Path
) -> None:
    found = results(
        slow_models,
        torch_root,
        *("--executor", f"dask={cluster.address}"),
        after_first=cluster.scheduler.kill,
        code=2,
    )
    assert sorted(record["number"] for record in found) == list(range(8))
    failed = [record for record in found if not record["ok"]]
    assert failed
    assert {(record["error"]["code"], record["stage"]) for record in failed} == {("executor", "executor")}


def test_models_of_a_killed_process_run_in_a_new_pool(
    slow_models: Path, torch_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "my_pool.py").write_text(FACTORY)
    noted = tmp_path / "processes"
    noted.mkdir()
    killed = []

    def kill() -> None:
        killed.append(min(int(path.name) for path in noted.iterdir()))
        os.kill(killed[0], signal.SIGKILL)

    found = results(
        slow_models,
        torch_root,
        *("--executor", "my_pool:make"),
        after_first=kill,
        PYTHONPATH=str(tmp_path),
        NOTED_IN=str(noted),
    )
    assert sorted(record["number"] for record in found) == list(range(8))
    assert all(record["ok"] for record in found)
    assert len(list(noted.iterdir())) > 2  # of a second pool


@pytest.mark.parametrize("files", [SHARED, SEND])
def test_the_report_is_that_of_a_run_without(
    verify: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: str
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for number in range(5):
        shutil.copy(TINY, models / f"{number}.pt")
    (models / "3.pt").write_text("nothing")
    torch.save([torch.ones(1, 4)], tmp_path / "in put.pt")
    monkeypatch.chdir(tmp_path)
    options = ("models", "--input", "in put.pt", "--env", "A=b", "--timeout", "300", "--json")
    alone = verify(*options)
    there = verify(*options, "--executor", THREADS, "--executor-files", files)
    assert there.code == alone.code == 2, there.err
    assert TIMES.sub("", there.out) == TIMES.sub("", alone.out)
    assert json.loads(there.out)["summary"] == {"ok": 4, "failed": 1, "skipped": 0}


def test_what_is_compared_and_written_is_where_it_was_asked_for(
    verify: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(TINY, tmp_path / "a.pt")
    monkeypatch.chdir(tmp_path)
    executor = ("--executor", THREADS, "--json")
    recorded = json.loads(verify("a.pt", "--record", "golden", *executor).out)["models"][0]
    assert recorded["ok"], recorded
    assert recorded["recording"].startswith("golden")
    checked = json.loads(verify("a.pt", "--golden", "golden", "--against", "python", *executor).out)
    assert "cannot be combined" in checked["error"]["message"]
    checked = json.loads(verify("a.pt", "--golden", "golden", "--save-outputs", "o.npz", *executor).out)[
        "models"
    ][0]
    assert (checked["ok"], checked["against"]["ok"], checked["saved_outputs"]) == (True, True, "o.npz")
    assert (tmp_path / "o.npz").is_file()
    sent = verify("a.pt", "--golden", "golden", *executor, "--executor-files", "send")
    assert "--golden and --executor-files send cannot be combined: the recordings are not sent" in sent.out


def test_variables_have_their_values_of_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET_HERE", "a b")
    monkeypatch.delenv("NOT_SET", raising=False)
    options = VerifyOptions(env=("SET_HERE", "NOT_SET", "OWN=1"))
    assert anchored(ModelTask("m.pt", options))[0].options.env == ("SET_HERE=a b", "OWN=1")


@pytest.fixture
def unit(torch_root: Path) -> Callable[..., Unit]:
    def make(task: ModelTask, way: str, **changes: Any) -> Unit:
        identity = identity_of(api.find(torch_root))
        files = packed(task, way)
        made = Unit(__version__, os.urandom(8).hex(), task, VerifyOptions(), identity, 1, files, ())
        return made._replace(**changes)

    return make


def test_what_is_sent_needs_no_file_there(unit: Callable[..., Unit], tmp_path: Path) -> None:
    model, given = tmp_path / "m.pt", tmp_path / "in.pt"
    shutil.copy(TINY, model)
    torch.save(torch.ones(1, 4), given)
    task = ModelTask(str(model), VerifyOptions(inputs=(str(given),)))
    sent, shared = unit(task, SEND), unit(task, SHARED)
    model.unlink()
    given.unlink()
    result = work(sent)
    assert result.ok, result.error
    assert (result.path, result.inputs[0].text) == (str(model), f"@'{given}'")
    with pytest.raises(FileError, match="not there on the worker"):
        work(shared)


def test_a_worker_with_another_libtorch_says_so(unit: Callable[..., Unit]) -> None:
    there = unit(ModelTask(str(TINY)), SHARED)
    other = there.libtorch._replace(version="1.2.3", build="other")
    with pytest.raises(LibtorchDiffersError) as caught:
        work(there._replace(libtorch=other))
    assert f"does not have libtorch {other.text}" in caught.value.message
    assert there.libtorch.text in caught.value.message
    with pytest.raises(ExecutorError, match=re.escape(f"has torchlink {__version__}, not 9.9")):
        work(there._replace(torchlink="9.9"))


def test_what_is_too_large_is_not_sent(tmp_path: Path) -> None:
    large = tmp_path / "large.pt"
    with large.open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(FileError, match="too large to be sent"):
        packed(ModelTask(str(large)), SEND)
    assert packed(ModelTask(str(large)), SHARED)


def test_the_api_takes_a_function(torch_root: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    report = api.verify(TINY, api.find(torch_root), executor=lambda: ThreadPoolExecutor(1))
    assert report.ok
    assert report.models[0].outputs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--executor", "nonsense"], "--executor nonsense names no executor."),
        (["--executor", "dask="], "--executor dask= names no scheduler."),
        (["--executor", "no_such_module:make"], "No module named 'no_such_module'"),
        (["--executor", "my_pool:absent"], "has no attribute 'absent'"),
        (["--executor", "my_pool:no_executor"], "returned int, which is no concurrent.futures.Executor"),
        (["--executor", "my_pool:failing"], "RuntimeError: no license"),
        (["--executor", THREADS, "-j", "2"], "-j and --executor cannot be combined."),
        (["--executor", THREADS, "--executor-files", "mail"], "--executor-files mail is not known."),
        (["--executor-files", "send"], "--executor-files goes with --executor."),
    ],
)
def test_what_cannot_be_used_is_one_error(
    verify: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    (tmp_path / "my_pool.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    done = verify(TINY, *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_without_the_extra_the_error_names_it(torch_root: Path) -> None:
    without = "import sys; sys.modules['distributed'] = None; "
    code = without + "from torchlink.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = ["verify", str(TINY), "--libtorch", str(torch_root), "--executor", "dask=tcp://127.0.0.1:1"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2
    assert "pip install 'torchlink[dask]'" in done.stderr


def test_processes_of_a_worker_end_where_no_model_comes(torch_root: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with contextlib.ExitStack() as ending:
        pool = ending.enter_context(ThreadPoolExecutor(1))

        class Kept:
            submit = pool.submit

            def shutdown(self, **_: bool) -> None:
                """The workers stay, as dask's do."""

        assert api.verify(TINY, api.find(torch_root), executor=Kept).ok  # type: ignore[arg-type] # it has both methods
        until(lambda: not _loaders(), 60)


def _loaders() -> list[str]:
    """The loaders that this process has started."""
    listed = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False
    )
    return [line for line in listed.stdout.splitlines() if "torchlink" in line]
