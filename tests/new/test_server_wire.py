"""The server of `torchlink new server`: all forms of requests, many connections, and files that change."""

from __future__ import annotations

import json
import resource
import shutil
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.new.server_tools import built, copied, serving, tensor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.new.server_tools import Server

pytestmark = [pytest.mark.cmake, pytest.mark.xdist_group("server")]
ONE = json.dumps([tensor([1, 2, 3], [1, 3])])
PING = b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory)


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[Server]:
    with serving(project, project / "models") as running:
        yield running
        assert running.stop() == 0


def exchange(server: Server, text: bytes, ends_with: bytes, answers: int = 1) -> bytes:
    """Send bytes on a connection of their own, and return what comes back up to so many ends of an answer."""
    got = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(text)
        while got.count(ends_with) < answers:
            more = connection.recv(1 << 20)
            assert more, got[-200:]
            got += more
    return got


def test_every_form_of_a_request_is_understood(server: Server) -> None:
    body = ONE.encode()
    post = b"POST /predictions/linear HTTP/1.1\r\nHost: a\r\n"
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:1], body[1:50], body[50:]))
    for text in (
        b"GET /ping HTTP/1.0\r\n\r\n",
        b"GET http://example.org/ping HTTP/1.1\r\nHost: example.org\r\n\r\n",
        b"GET http://example.org:80/ping?a=b HTTP/1.1\r\nHost: example.org\r\n\r\n",
        b"HEAD / HTTP/1.1\r\n\r\n" + PING,
    ):
        assert exchange(server, text, b'{"status":"Healthy"}').startswith(b"HTTP/1.1 200"), text
    for text in (
        post + b"Transfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n",
        post + b"Content-Length: %d\r\n\r\n" % len(body) + body,
    ):
        assert exchange(server, text, b"]}").startswith(b"HTTP/1.1 200"), text
    waiting = post + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(waiting)
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def test_pipelined_requests_are_answered_in_their_order(server: Server) -> None:
    body = ONE.encode()
    post = b"POST /predictions/linear HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    count = 5000  # many fit into one read
    got = exchange(server, (PING + PING + post) * (count // 3) + PING * 2, b"Healthy", count // 3 * 2 + 2)
    assert got.count(b"HTTP/1.1 200") == got.count(b"HTTP/1.1 ") == count // 3 * 3 + 2
    kinds = [b"Healthy" in each for each in got.split(b"HTTP/1.1 200")[1:]]
    assert kinds == [True, True, False] * (count // 3) + [True, True]


def test_an_answer_larger_than_the_sockets_buffer_arrives_whole(server: Server) -> None:
    rows = 200_000
    body = json.dumps([tensor([0.123456] * rows, [rows])]).encode()
    text = b"POST /predictions/identity HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    got = exchange(server, text, b"]}")
    assert len(json.loads(got.partition(b"\r\n\r\n")[2])["value"]) == rows


def test_a_connection_too_many_is_told_so(project: Path) -> None:
    with serving(project, project / "models", "--max-connections", "8") as server, ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        kept = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(8)]
        for each in kept:
            each.sendall(PING)
            assert each.recv(4096).startswith(b"HTTP/1.1 200")
        with socket.create_connection(address, timeout=20) as refused:
            assert refused.recv(4096).startswith(b"HTTP/1.1 503")
        kept[0].sendall(PING)
        assert kept[0].recv(4096).startswith(b"HTTP/1.1 200")
        assert server.stop() == 0


def test_connections_are_not_bounded_by_the_shells_limit_of_descriptors(project: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1024
    if hard < most:
        pytest.skip("the hard limit of descriptors is too low")
    with ExitStack() as stack:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
            server = stack.enter_context(serving(project, project / "models"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        address = ("127.0.0.1", server.port)
        kept = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(400)]
        for each in kept:
            each.sendall(PING)
            assert each.recv(4096).startswith(b"HTTP/1.1 200")
        assert server.predict("linear", tensor([1, 2, 3], [1, 3])).status == 200


def test_a_file_replaced_while_it_is_loaded_is_never_an_error_and_at_last_the_new_one(
    project: Path, tmp_path: Path
) -> None:
    models = copied(project, tmp_path / "models", "linear.pt")
    kept = project / "models"
    with serving(project, models) as server, ThreadPoolExecutor(4) as pool:
        going = [True]

        def ask() -> set[str]:
            seen = set()
            while going[0]:
                answer = server.ask("/predictions/linear", ONE)
                assert answer.status == 200, answer
                seen.add(str(answer.json["value"]))
            return seen

        asked = [pool.submit(ask) for _ in range(4)]
        for name in ["other.pt", "linear.pt"] * 10 + ["other.pt"]:
            shutil.copy(kept / name, tmp_path / "new.pt")
            (tmp_path / "new.pt").replace(models / "linear.pt")
            time.sleep(0.02)
        last = server.predict("linear", tensor([1, 2, 3], [1, 3])).json
        going[0] = False
        assert len(set().union(*(each.result() for each in asked))) <= 2
    with serving(project, kept) as server:
        assert server.predict("other", tensor([1, 2, 3], [1, 3])).json == last
