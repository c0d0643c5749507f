"""The server of `torchlink new server` under load, with files that change, with limits, and at its end."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import program, until
from tests.new.server_tools import built, copied, serving, tensor

if TYPE_CHECKING:
    from tests.new.server_tools import Server

pytestmark = [pytest.mark.cmake, pytest.mark.xdist_group("server")]
ONE = json.dumps([tensor([1, 2, 3], [1, 3])])
POST = f"""wrk.method = "POST"
wrk.body = '{ONE}'
local bad = 0
function response(status) if status ~= 200 then bad = bad + 1; print("status " .. status) end end
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory)


def resident(server: Server) -> int:
    """The server's memory, in KiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1])


def load(server: Server, requests: int, path: str = "/predictions/linear") -> int:
    """Send so many requests over 64 connections that stay open; how many were answered with 200."""

    def some(count: int) -> int:
        good = 0
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
            for _ in range(count):
                connection.request("POST", path, ONE)
                answer = connection.getresponse()
                good += answer.status == 200 and answer.read().startswith(b'{"type":"tensor"')
        return good

    with ThreadPoolExecutor(64) as pool:
        return sum(pool.map(some, [requests // 64 + (each < requests % 64) for each in range(64)]))


def test_ten_thousand_requests_from_64_connections_are_all_answered(project: Path) -> None:
    with serving(project, project / "models") as server:
        assert load(server, 10_000) == 10_000
        assert server.metric('server_requests_total{route="/predictions",code="200"}') == 10_000
        assert server.metric('server_model_loads_total{model="linear.pt"}') == 1
        assert server.stop() == 0


def test_memory_stays_flat(project: Path, tmp_path: Path) -> None:
    wrk, script = program("wrk"), tmp_path / "post.lua"
    script.write_text(POST)
    with serving(project, project / "models") as server:
        url = f"http://127.0.0.1:{server.port}/predictions/linear"

        def until_answered(count: int) -> int:
            while server.metric('server_requests_total{route="/predictions",code="200"}') < count:
                subprocess.run(
                    [wrk, "-t1", "-c64", "-d1s", "-s", script, url], check=True, capture_output=True
                )
            return resident(server)

        before = until_answered(20_000)
        after = until_answered(120_000)
        assert after - before < 8 << 10


def test_64_clients_load_a_cold_model_once(project: Path) -> None:
    with serving(project, project / "models") as server:
        with ThreadPoolExecutor(64) as pool:
            answers = list(
                pool.map(lambda _: server.ask("/predictions/large", _rows(1024)).status, range(64))
            )
        assert answers == [200] * 64
        assert server.metric('server_model_loads_total{model="large.pt"}') == 1


def _rows(count: int) -> str:
    return json.dumps([tensor([0] * count, [1, count])])


def test_a_replaced_file_is_loaded_again(project: Path, tmp_path: Path) -> None:
    models = copied(project, tmp_path / "models", "linear.pt")
    with serving(project, models) as server:
        first = server.ask("/predictions/linear", ONE).json
        for source in ("other.pt", "linear.pt", "other.pt"):
            shutil.copy(project / "models" / source, models / "new")
            (models / "new").rename(models / "linear.pt")
            answer = server.ask("/predictions/linear", ONE).json
            assert (answer == first) == (source == "linear.pt")
        shutil.copy(project / "models/linear.pt", models / "linear.pt")  # written in place
        assert server.ask("/predictions/linear", ONE).json == first
        (models / "linear.pt").unlink()
        assert server.ask("/predictions/linear", ONE).status == 404
        assert server.metric("server_models_loaded") <= 1


def test_a_cached_model_answers_without_touching_the_disk(project: Path, tmp_path: Path) -> None:
    strace = program("strace")
    with serving(project, project / "models") as server:
        assert server.ask("/predictions/linear", ONE).status == 200
        trace = tmp_path / "trace"
        with subprocess.Popen(
            [strace, "-f", "-e", "trace=file,getdents64,mmap", "-o", trace, "-p", str(server.process.pid)],
            stderr=subprocess.PIPE,
            text=True,
        ) as tracer:
            assert tracer.stderr is not None
            assert "attached" in tracer.stderr.readline()
            for _ in range(50):
                assert server.ask("/predictions/linear", ONE).status == 200
                assert server.ask("/serve?servable_identifier=linear.pt", ONE).status == 200
            tracer.terminate()
            tracer.wait(20)
        assert not re.findall(r"open|stat\(|getdents|readlink", trace.read_text())


def test_the_budget_drops_what_was_used_least_recently(project: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for name in "abc":
        shutil.copy(project / "models/large.pt", models / f"{name}.pt")  # 4 MB each
    with serving(project, models, "--cache-bytes", str(10 << 20)) as server:
        for name in ("a", "b", "a", "c", "a", "b"):  # c drops b, b drops c
            assert server.ask(f"/predictions/{name}", _rows(1024)).status == 200
        loads = [server.metric(f'server_model_loads_total{{model="{name}.pt"}}') for name in "abc"]
        assert loads == [1, 2, 1]
        assert server.metric("server_models_loaded") == 2
        assert server.metric("server_models_loaded_bytes") <= 10 << 20
    with serving(project, models, "--cache-ttl", "1") as server:
        assert server.ask("/predictions/a", _rows(1024)).status == 200
        until(lambda: server.metric("server_models_loaded") == 0)


def test_requests_are_joined_where_that_changes_nothing(project: Path) -> None:
    with serving(project, project / "models", "--max-batch", "8", "--batch-wait-ms", "20") as server:
        rows = {each: json.dumps([tensor([each, 2, 3], [1, 3])]) for each in range(64)}

        def at_once(name: str) -> dict[int, list[float]]:
            with ThreadPoolExecutor(64) as pool:
                answers = pool.map(
                    lambda body: server.ask(f"/predictions/{name}", body).json["value"], rows.values()
                )
                return dict(zip(rows, answers, strict=True))

        alone = {each: server.ask("/predictions/linear", rows[each]).json["value"] for each in range(3)}
        for _ in range(3):
            joined = at_once("linear")
            for each, value in alone.items():
                assert joined[each] == pytest.approx(value, rel=1e-4, abs=1e-5)
            # Of a model that mixes its rows nothing may be joined.
            assert all(value == [0.0, 0.0, 0.0] for value in at_once("centered").values())

        def batches(name: str, bound: str) -> float:
            return server.metric(f'server_batch_size_bucket{{model="{name}.pt",le="{bound}"}}')

        assert batches("linear", "8") > batches("linear", "1")
        assert batches("linear", "8") == batches("linear", "+Inf")
        assert batches("centered", "1") == batches("centered", "+Inf")


def test_limits_are_413_408_and_503(project: Path) -> None:
    limits = ("--max-body", "1000", "--timeout", "1", "--max-queue", "2", "--pool-threads", "1")
    with serving(project, project / "models", *limits) as server:
        assert server.ask("/predictions/linear", "x" * 1001).status == 413
        assert server.ask("/predictions/linear", "x" * 5_000_000).status == 413
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as slow:
            slow.sendall(b"POST /predictions/linear HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf")
            assert slow.recv(4096).startswith(b"HTTP/1.1 408")
        long = json.dumps([tensor([1], [1]), 150_000])
        assert server.ask("/predictions/slow", json.dumps([tensor([1], [1]), 1])).status == 200
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: server.ask("/predictions/slow", long).status, range(8)))
        assert set(answers) <= {408, 503, 200}
        assert 503 in answers
        assert 408 in answers
        assert server.ask("/ping").status == 200


def test_sigterm_answers_what_was_accepted(project: Path) -> None:
    with serving(project, project / "models") as server:
        body = json.dumps([tensor([1], [1]), 20_000])
        assert server.ask("/predictions/slow", json.dumps([tensor([1], [1]), 1])).status == 200
        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(server.ask, "/predictions/slow", body) for _ in range(8)]
            until(lambda: server.metric("server_requests_in_flight") >= 9)
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as begun:
                begun.sendall(b"POST /predictions/linear HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(ONE))
                time.sleep(0.1)
                server.process.send_signal(signal.SIGTERM)
                until(lambda: refused(server.port))
                begun.sendall(ONE.encode())
                assert begun.recv(4096).startswith(b"HTTP/1.1 200")
            assert [each.result().status for each in waiting] == [200] * 8
        assert server.process.wait(60) == 0


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_killed_in_the_middle_and_started_again_it_is_right(project: Path) -> None:
    with serving(project, project / "models") as server:
        first = server.ask("/predictions/linear", ONE).json
        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(load, server, 200_000)
            until(lambda: server.metric('server_requests_total{route="/predictions",code="200"}') > 500)
            server.process.kill()
            with pytest.raises((OSError, http.client.HTTPException)):
                loading.result()
    with serving(project, project / "models") as server:
        assert server.ask("/predictions/linear", ONE).json == first
        assert load(server, 1000) == 1000
