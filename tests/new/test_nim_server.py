"""The kind `nim-server`: its own commands build and test it, and real clients ask it."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import made_once, program, run_clean
from tests.new.small_projects import Project, environment, made_and_built

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.nim, pytest.mark.compile, pytest.mark.timeout(900)]
ONES = [{"type": "tensor", "data_type": "float32", "shape": [1, 4], "value": [1, 1, 1, 1]}]


class Server:
    """A running server."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def ask(self, path: str, body: object = None, method: str | None = None) -> tuple[int, Any]:
        """The status and the JSON of an answer; `body` is bytes, text, or a value that is sent as JSON."""
        data = json.dumps(body).encode() if not isinstance(body, (bytes, str)) else body
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            if body is None:
                connection.request(method or "GET", path)
            else:
                connection.request(method or "POST", path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert answer.getheader("Content-Type") == "application/json"
            return answer.status, json.loads(answer.read())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def raw(self, data: bytes) -> tuple[int, Any]:
        """The answer to bytes that are no proper request, after which the client sends nothing more."""
        with self.connect() as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return answer_on(connection)

    def memory(self) -> int:
        """Megabytes of its own."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"RssAnon:\s*(\d+)", status)[0]) >> 10


def answer_on(connection: socket.socket) -> tuple[int, Any]:
    """The first answer on a connection."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, json.loads(response.read())


@pytest.fixture(scope="module")
def project(torch_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project, built, with more models than its own."""
    return made_and_built(tmp_path_factory, "nim-server", environment(torch_root))


@pytest.fixture(scope="module")
def models(torch_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of TorchScript models, and what Python answers."""

    def make(directory: Path) -> None:
        script = Path(__file__).parent / "make_served_models.py"
        env = {**os.environ, "PYTHONPATH": str(torch_root.parent)}
        subprocess.run([sys.executable, "-W", "ignore", script, directory], env=env, check=True, timeout=120)

    return made_once(tmp_path_factory, "served", make)


@contextmanager
def serving(project: Project, models: Path, *options: str) -> Iterator[Server]:
    command = ["build/server", "--models", str(models), "--host", "127.0.0.1", "--port", "0", *options]
    process = subprocess.Popen(
        command, cwd=project.directory, env={"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield Server(process, int(line.rpartition(":")[2]))
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="module")
def server(project: Project, models: Path) -> Iterator[Server]:
    with serving(project, models, "--max-body", "1000000") as running:
        yield running


def test_its_own_test_passes(project: Project) -> None:
    assert "[OK] ends when it is asked to" in project.run(project.commands[1]).stdout


def test_it_is_clean_and_starts_from_another_place(project: Project, tmp_path: Path) -> None:
    project.run("torchlink lint build/server")
    shutil.copy(project.directory / "build/server", tmp_path)
    helped = run_clean(tmp_path / "server", "--help")
    assert (helped.returncode, helped.stdout[:13]) == (0, "usage: server")


def test_the_lines_of_its_readme(project: Project) -> None:
    """Every curl line, against the server that the printed command starts, on another port."""
    readme = (project.directory / "README.md").read_text()
    assert "\n".join(project.commands) in readme
    program("curl")
    lines = [line for line in readme.splitlines() if line.startswith("curl ")]
    assert len(lines) == 4
    with serving(project, project.directory / "models") as running:
        answers = [
            json.loads(project.run(line.replace(":8080", f":{running.port}")).stdout) for line in lines
        ]
    assert answers[0] == {"status": "Healthy"}
    assert answers[1] == {"models": [{"name": "model", "file": "model.pt", "loaded": False}]}
    for answer in answers[2:]:
        assert answer == {"type": "tensor", "data_type": "float32", "shape": [1, 2], "value": [2.5, -0.75]}


def exact(value: Any) -> Any:
    """The same value with the exact numbers of its dtype, which are printed with as few digits as it has."""
    if isinstance(value, list):
        return [exact(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "tensor" and value["data_type"] in ("float32", "complex64"):
        numbers = [
            [single(part) for part in each] if isinstance(each, list) else single(each)
            for each in value["value"]
        ]
        return {**value, "value": numbers}
    if value.get("type") == "tensor" and value["data_type"] in ("float16", "bfloat16"):
        return {**value, "value": [single(each) for each in value["value"]]}
    return {key: exact(each) for key, each in value.items()}


def single(number: Any) -> Any:
    return number if isinstance(number, str) else struct.unpack("f", struct.pack("f", number))[0]


@pytest.mark.parametrize("name", ["same", "twice", "mixed", "keys", "linear", "slow"])
def test_values_of_every_kind_go_in_and_the_numbers_are_those_of_python(
    server: Server, models: Path, name: str
) -> None:
    for call in json.loads((models / f"{name}.json").read_text()):
        status, answer = server.ask(f"/predictions/{name}", call["arguments"])
        assert status == 200, answer
        assert exact(answer) == exact(call["answer"])
        assert server.ask(f"/serve?servable_identifier={name}.pt", call["arguments"]) == (200, answer)


def test_a_float_is_printed_with_its_own_digits(server: Server) -> None:
    for dtype in ("float32", "float64"):
        value = [{"type": "tensor", "data_type": dtype, "shape": [2], "value": [0.1, 3]}]
        assert server.ask("/predictions/same", value)[1]["value"] == [0.1, 3.0]


def test_short_forms_nested_arrays_and_defaults(server: Server) -> None:
    nested = {"type": "tensor", "data_type": "int64", "shape": [2, 2], "value": [[1, 2], [3, 4]]}
    assert server.ask("/predictions/same", [nested])[1]["value"] == [1, 2, 3, 4]
    x = {"type": "tensor", "data_type": "float32", "shape": [], "value": 1}
    short = [x, 1, 3, False, "text", [4], {"type": "generic_dict", "value": {}}, [5, "x"]]
    status, answer = server.ask("/predictions/mixed", short)
    assert status == 200, answer
    assert [part.get("value") if isinstance(part, dict) else None for part in answer["value"][1:5]] == [
        2,
        1.0,
        True,
        "text!",
    ]
    assert answer["value"][-1]["value"] == 3
    empty = [x, 1, 3, False, "t", [], {"type": "dict", "value": []}, [5, "x"], None, 8]
    assert server.ask("/predictions/mixed", empty)[0] == 200


def tensor(**changes: Any) -> bytes:
    made = {"type": "tensor", "data_type": "float32", "shape": [2], "value": [1, 2], **changes}
    return json.dumps([{key: value for key, value in made.items() if value != "left out"}]).encode()


NOT_JSON = (
    b"", b" ", b"[", b"]", b"{", b"}", b"[1,]", b"[,1]", b"[1 2]", b"[1]x", b"[01]", b"[.5]", b"[1.]", b"[+1]",
    b"[1e]", b"[NaN]", b"[Infinity]", b"[-]", b"['x']", b'["\\q"]', b'["\\u12"]', b'["a\nb"]', b"[//c\n1]",
    b"[/*c*/1]", b"[tru]", b"[nul]", b'["\xff"]', b"\xff\xfe", b"[" * 100000, b'{"a":' * 1000, b'{"a" 1}',
    b'{"a":1,}', b"{1:2}", b"[\x00]", b'["x', b"\xef\xbb\xbf[]",
)  # fmt: skip
NOT_ARGUMENTS = (
    b"null", b"1", b'"x"', b"true", b"{}", b"[]", b"[1,2]", b"[null]", b"[{}]", b"[[]]", b'["x"]', b"[1e400]",
    b"[99999999999999999999]", b"[" * 100 + b"]" * 100, b'[{"type":"x"}]', b'[{"type":1}]', b'[{"type":null}]',
    b'[{"type":"image","value":"AAAA"}]', b'[{"type":"scalar"}]', b'[{"type":"scalar","value":1}]',
    b'[{"type":"string","value":1}]', b'[{"type":"tuple","value":{}}]', b'[{"type":"dict","value":[[1]]}]',
    b'[{"type":"dict","value":[[[],1]]}]', b'[{"type":"generic_dict","value":1}]',
    b'[{"type":"dict","value":[[1,1],["a",1]]}]',
    tensor(data_type="left out"), tensor(data_type="float33"), tensor(data_type=3), tensor(data_type="qint8"),
    tensor(shape="left out"), tensor(shape="2"), tensor(shape=[1.5]), tensor(shape=[-1]), tensor(shape=[[2]]),
    tensor(shape=[1 << 62, 4]), tensor(shape=[1 << 70]), tensor(shape=[1e18]), tensor(shape=[1] * 65),
    tensor(shape=[1 << 20, 1 << 20]), tensor(shape=[3]), tensor(shape=[]), tensor(shape=[True]),
    tensor(value="left out"), tensor(value="12"), tensor(value=3), tensor(value=[1]), tensor(value=[1, "2"]),
    tensor(value=[1, None]), tensor(value=[1, True]), tensor(value=[[1], [2]]), tensor(value=[1, {}]),
    tensor(value=[1, 1e39]), tensor(shape=[2, 2], value=[[1, 2], [3]]), tensor(shape=[2, 2], value=[[1, 2], 3]),
    tensor(data_type="uint8", value=[1, 300]), tensor(data_type="uint8", value=[1, -1]),
    tensor(data_type="int8", value=[1, 128]), tensor(data_type="int64", value=[1, 1.5]),
    tensor(data_type="int64", value=[1, 1 << 63]), tensor(data_type="uint64", value=[1, 1 << 64]),
    tensor(data_type="uint64", value=[1, -1]), tensor(data_type="int64", value=[1, "NaN"]),
    tensor(data_type="bool", value=[1, 2]), tensor(data_type="complex64", value=[[1, 2, 3], [1, 2]]),
    tensor(data_type="float16", value=[1, 1e30]), tensor().replace(b"2]}", b"1e999]}"),
)  # fmt: skip
NOT_PATHS = (
    "/predictions/none", "/predictions/", "/predictions/..", "/predictions/../x", "/predictions/%2e%2e%2fsame",
    "/predictions/same%00", "/predictions/%zz", "/predictions/%", "/predictions/same/", "/predictions/same.pt",
    "/predictions/link", "/predictions/directory", "/predictions/fifo", "/predictions/broken",
    "/serve", "/serve?", "/serve?servable_identifier=", "/serve?servable_identifier=same", "/serve?other=same.pt",
    "/serve?servable_identifier=../served/same.pt", "/serve?servable_identifier=%2e%2e/served/same.pt",
    "/serve?servable_identifier=/etc/passwd", "/serve?servable_identifier=%2fetc%2fx.pt",
    "/serve?servable_identifier=./same.pt", "/serve?servable_identifier=same.pt%00",
    "/serve?servable_identifier=link.pt", "/serve?servable_identifier=fifo.pt",
    "/serve?servable_identifier=directory.pt",
    "/serve?servable_identifier=a//b.pt", "/serve?servable_identifier=same.json", "/serve?servable_identifier=.pt",
    "/serve?servable_identifier=" + "a" * 5000 + ".pt",
    "/", "/v3", "/ping", "/models", "/predictions",
)  # fmt: skip
POST = b"POST /predictions/same HTTP/1.1\r\nHost: x\r\n"
NOT_HTTP = (
    b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET\r\n\r\n", b"GET /ping\r\n\r\n", b"GET  /ping HTTP/1.1\r\n\r\n",
    b"GET /ping HTTP/2.0\r\n\r\n", b"GET /ping HTTP/1.1 x\r\n\r\n", b"GET ping HTTP/1.1\r\n\r\n",
    b"G(T /ping HTTP/1.1\r\n\r\n", b"BREW /ping HTTP/1.1\r\n\r\n", b"DELETE /ping HTTP/1.1\r\n\r\n",
    b"GET /ping HTTP/1.1\n\n", b"GET /ping HTTP/1.1\r\nno colon\r\n\r\n", b"GET /ping HTTP/1.1\r\nA : b\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nA: \x00\r\n\r\n", b"GET /ping HTTP/1.1\r\n folded: x\r\n\r\n",
    b"GET /pi\x01ng HTTP/1.1\r\n\r\n", b"GET /ping HTTP/1.1\r\nA: b\rc\r\n\r\n", b"GET /ping HTTP/1.1\r\nHost: x\r\n",
    b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\n\r\n", b"GET /ping HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    POST + b"\r\n", POST + b"Content-Length: -1\r\n\r\n", POST + b"Content-Length: abc\r\n\r\n",
    POST + b"Content-Length: \r\n\r\n", POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    POST + b"Content-Length: 2000000\r\n\r\n", POST + b"Content-Length: 10\r\n\r\n[]",
    POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n[] ",
    POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n[]",
    POST + b"Transfer-Encoding: gzip\r\n\r\n", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n7fffffff\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]]]\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 1000,
    POST + b"Expect: a miracle\r\nContent-Length: 2\r\n\r\n[]",
)  # fmt: skip


@pytest.fixture(scope="module")
def odd_files(models: Path) -> None:
    """What is below the directory of models and must not be served."""
    outside = models.parent / "outside.pt"
    shutil.copy(models / "same.pt", outside)
    (models / "link.pt").symlink_to(outside)
    (models / "directory.pt").mkdir()
    os.mkfifo(models / "fifo.pt")
    (models / "broken.pt").write_bytes((models / "linear.pt").read_bytes()[:500])


def test_every_bad_request_is_an_error_and_the_server_goes_on(server: Server, odd_files: None) -> None:
    good = [{"type": "tensor", "data_type": "float32", "shape": [1], "value": [1]}]
    assert server.ask("/predictions/same", good)[0] == 200
    before = server.memory()
    wrong: list[tuple[object, tuple[int, Any], set[int]]] = [
        *((body[:60], server.ask("/predictions/same", body), {400}) for body in (*NOT_JSON, *NOT_ARGUMENTS)),
        *((path[:60], server.ask(path, good), {400, 403, 404, 405, 422}) for path in NOT_PATHS),
        *((data[:90], server.raw(data), {400, 405, 408, 411, 413, 417, 431}) for data in NOT_HTTP),
        ("raises", server.ask("/predictions/raises", good), {400}),
    ]
    for what, (status, answer), expected in wrong:
        assert status in expected, (what, status, answer)
        assert set(answer) == {"error"}
        assert isinstance(answer["error"], str)
        assert answer["error"], what
        assert "\n" not in answer["error"]
    assert len(wrong) > 100
    assert server.ask("/predictions/same", good)[0] == 200
    assert server.process.poll() is None
    assert server.memory() < before + 100


def test_an_error_names_the_place_and_the_fact(server: Server) -> None:
    for body, fact in (
        (tensor(value=[1, "x"]), 'at $[0].value[1]: "x" is not float32'),
        (tensor(data_type="uint8", value=[1, 300]), "at $[0].value[1]: 300 does not fit uint8"),
        (tensor(shape=[3]), "at $[0].value: 2 elements, but the shape has 3"),
        (b'["x"]', "at $[0]: must be Tensor"),
    ):
        assert server.ask("/predictions/same", body) == (400, {"error": fact})
    x = json.loads(tensor())[0]
    bad = [x, 1, 2.5, True, "t", ["a"], {"type": "generic_dict", "value": {}}, [1, "x"]]
    assert server.ask("/predictions/mixed", bad) == (400, {"error": "at $[5][0]: must be int"})
    assert server.ask("/predictions/raises", [x]) == (400, {"error": "ValueError: the model says no"})


def test_a_large_body_is_refused_although_the_client_sends_all_of_it(server: Server) -> None:
    assert server.ask("/predictions/same", b" " * 20_000_000)[0] == 413
    assert server.ask("/predictions/same", b" " * 999_999)[0] == 400  # not JSON, but not too long


def test_a_connection_stays_open_and_requests_may_be_sent_at_once(server: Server) -> None:
    body = tensor()
    one = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\nTrailer: x\r\n\r\n" % (
        len(body),
        body,
    )
    with server.connect() as connection:
        connection.sendall(one + chunked + b"GET /ping HTTP/1.1\r\nConnection: close\r\n\r\n")
        stream = connection.makefile("rb")
        text = stream.read().decode()
    assert text.count("HTTP/1.1 200 OK") == 3
    assert text.count("connection: keep-alive") == 2
    assert text.count('"value":[1.0,2.0]') == 2
    with server.connect() as connection:  # byte by byte
        for byte in one:
            connection.sendall(bytes([byte]))
        assert answer_on(connection)[0] == 200


def test_head_and_expect(server: Server) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        for _ in range(2):
            connection.request("HEAD", "/ping")
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b"")
    body = tensor()
    with server.connect() as connection:
        connection.sendall(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert answer_on(connection)[0] == 200


def test_a_replaced_model_is_loaded_again(project: Project, models: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    shutil.copy(models / "same.pt", tmp_path / "sub/model.pt")
    shutil.copy(models / "same.pt", tmp_path / "model.pt")
    with serving(project, tmp_path) as running:
        assert running.ask("/models")[1]["models"] == [{"name": "model", "file": "model.pt", "loaded": False}]
        assert running.ask("/predictions/model", tensor())[1]["value"] == [1, 2]
        assert running.ask("/models")[1]["models"][0]["loaded"] is True
        shutil.copy(models / "twice.pt", tmp_path / "new")
        (tmp_path / "new").replace(tmp_path / "model.pt")
        assert running.ask("/models")[1]["models"][0]["loaded"] is False
        assert running.ask("/predictions/model", tensor())[1]["value"] == [2, 4]
        assert running.ask("/serve?servable_identifier=sub/model.pt", tensor())[1]["value"] == [1, 2]
        shutil.copy(models / "twice.pt", tmp_path / "a b.pt")
        assert running.ask("/serve?servable_identifier=a+b.pt", tensor())[1]["value"] == [
            2,
            4,
        ]  # as forms do
        assert running.ask("/predictions/a+b", tensor())[0] == 404  # in a path it is a plus
        (tmp_path / "model.pt").unlink()
        assert running.ask("/predictions/model", tensor())[0] == 404


def test_more_models_than_stay_loaded(project: Project, models: Path, tmp_path: Path) -> None:
    for index in range(20):
        shutil.copy(models / "same.pt", tmp_path / f"m{index}.pt")
    with serving(project, tmp_path) as running:
        for index in (*range(20), 0, 19):
            assert running.ask(f"/predictions/m{index}", tensor())[1]["value"] == [1, 2]
        assert sum(each["loaded"] for each in running.ask("/models")[1]["models"]) == 16


def test_a_slow_client_is_told_and_does_not_disturb_others(project: Project, models: Path) -> None:
    with serving(project, models, "--timeout", "1") as running, running.connect() as slow:
        slow.sendall(POST + b"Content-Length: 10\r\n\r\n[")
        assert running.ask("/ping")[0] == 200
        assert answer_on(slow) == (408, {"error": "the request did not arrive in time"})


def test_sigterm_answers_what_has_begun_and_exits_0(project: Project, models: Path) -> None:
    with serving(project, models) as running:
        assert running.ask("/predictions/slow", [2]) == (
            200,
            {"type": "scalar", "data_type": "int64", "value": 256},
        )
        slow = b"POST /predictions/slow HTTP/1.1\r\nContent-Length: 6\r\n\r\n[ 50 ]"
        waiting = [running.connect() for _ in range(8)]
        for connection in waiting:
            connection.sendall(slow)
        half, idle = running.connect(), running.connect()
        half.sendall(slow[:-3])
        running.process.send_signal(signal.SIGTERM)
        for connection in waiting:
            assert answer_on(connection)[0] == 200
        half.sendall(slow[-3:])
        assert answer_on(half)[0] == 200
        assert idle.recv(1) == b""
        assert running.process.wait(60) == 0
        with pytest.raises(ConnectionRefusedError):
            running.connect()
        for connection in (*waiting, half, idle):
            connection.close()


def test_many_requests_leave_no_memory_behind(server: Server) -> None:
    body = tensor()
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:

        def ask(count: int) -> None:
            for index in range(count):
                connection.request("POST", "/predictions/same", body if index % 2 else b"[1")
                assert connection.getresponse().read()

        ask(500)
        before = server.memory()
        ask(2500)
    assert server.memory() <= before + 5


@pytest.mark.parametrize(
    ("words", "code", "fact"),
    [
        ("", 2, "usage: server"),
        ("--models /no/such", 1, "no such directory: /no/such"),
        ("--models . --port 70000", 2, "--port 70000: not a number from 0 to 65535"),
        ("--models . --nope 1", 2, "unknown option --nope"),
    ],
)
def test_a_wrong_command_line_is_one_error(project: Project, words: str, code: int, fact: str) -> None:
    done = run_clean(project.directory / "build/server", *shlex.split(words), cwd=project.directory)
    assert done.returncode == code
    assert fact in done.stderr
    assert "Traceback" not in done.stderr
