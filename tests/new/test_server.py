"""`torchlink new server`: what its server answers, to curl, http.client and Triton's client."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import struct
import subprocess
import urllib.request
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest

from tests.conftest import needed, program, run_clean, until
from tests.new.malformed import INPUT, ONE, WRONG_BYTES, WRONG_INFERENCES, WRONG_PATHS, WRONG_VALUES
from tests.new.server_tools import TORCHLINK, Server, built, copied, environment, serving, tensor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.cmake, pytest.mark.xdist_group("server")]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory)


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[Server]:
    with serving(project, project / "models") as running:
        yield running
        assert running.process.poll() is None  # nothing that was sent has ended it
        assert running.stop() == 0


def test_its_program_is_lint_clean(project: Path) -> None:
    ran = subprocess.run(
        [TORCHLINK, "lint", project / "project/build/server"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "rpath-relative" not in ran.stdout  # CMake's padding makes the loader search the current directory


def test_installed_it_still_starts(project: Path, tmp_path: Path) -> None:
    subprocess.run(
        [program("cmake"), "--install", project / "project/build", "--prefix", tmp_path / "there"],
        check=True,
        capture_output=True,
    )
    ran = run_clean(tmp_path / "there/bin/server", "--help")
    assert ran.returncode == 0
    assert "--models DIR" in ran.stdout


def test_wrong_options_are_an_error(project: Path, tmp_path: Path) -> None:
    binary = project / "project/build/server"
    for options in ([], ["--models"], ["--models", tmp_path, "--port", "x"], ["--modles", tmp_path]):
        ran = run_clean(binary, *options)
        assert ran.returncode == 2
        assert ran.stderr.startswith("server: ")
    assert run_clean(binary, "--models", tmp_path / "none").returncode == 1


def test_serve_and_predictions_answer_one_value(server: Server) -> None:
    body = json.dumps([tensor([1, 2, 3], [1, 3])])
    answers = [
        server.ask("/serve?servable_identifier=linear.pt", body),
        server.ask("/predictions/linear", body),
        server.ask("/predictions/compiled", body),  # of AOTInductor, with one row
    ]
    assert [answer.status for answer in answers] == [200] * 3
    first = answers[0].json
    assert (first["type"], first["data_type"], first["shape"]) == ("tensor", "float32", [1, 2])
    for other in answers[1:]:
        assert other.json["value"] == pytest.approx(first["value"], rel=1e-5)


def test_all_kinds_of_values_pass(server: Server) -> None:
    answer = server.predict(
        "several", tensor([1, "NaN"], [2]), {"type": "scalar", "data_type": "int64", "value": 3}, 2, "text"
    ).json
    assert answer["type"] == "tuple"
    assert answer["value"] == [
        tensor([6.0, "NaN"], [2]),
        {"type": "scalar", "data_type": "int64", "value": 3},
        {"type": "string", "value": "text"},
        {"type": "generic_dict", "value": {"x": tensor([1.0, "NaN"], [2])}},
    ]
    for given in (
        tensor([[1.0, -2.5]], [1], "complex64"),
        tensor([True], [1], "bool"),
        tensor([2**64 - 1], [1], "uint64"),
        tensor([1.5], [], "bfloat16"),
        tensor([], [0, 3]),
    ):
        assert server.predict("identity", given).json == given


def png(pixels: bytes, width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + pixels[3 * width * y : 3 * width * (y + 1)] for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_an_image_is_its_pixels(server: Server) -> None:
    pixels = bytes(range(18))
    encoded = base64.b64encode(png(pixels, 3, 2)).decode()
    answer = server.predict("identity", {"type": "image", "value": encoded})
    assert answer.json == tensor(list(pixels), [2, 3, 3], "uint8")
    assert server.predict("identity", {"type": "image", "value": encoded[:40]}).status == 400


def test_a_compressed_body_is_read(server: Server) -> None:
    body = gzip.compress(json.dumps([tensor([1, 2], [2])]).encode())
    assert server.ask("/predictions/identity", body, Content_Encoding="gzip").status == 200
    assert server.ask("/predictions/identity", body[:20], Content_Encoding="gzip").status == 400


def test_a_model_that_throws_is_a_json_error_with_its_sentence(server: Server) -> None:
    answer = server.predict("throws", tensor([1], [1]))
    assert (answer.status, answer.json) == (400, {"error": "the model failed: ValueError: too large: x"})
    shapes = server.predict("linear", tensor([1, 2], [1, 2]))
    assert shapes.status == 400
    assert "mat1 and mat2 shapes cannot be multiplied" in shapes.json["error"]


def test_two_hundred_malformed_requests_are_each_a_4xx(server: Server) -> None:
    values: list[str | bytes] = [*WRONG_VALUES, *WRONG_BYTES]
    answers: list[tuple[str, str | bytes]] = [
        *(("/predictions/linear", body) for body in values),
        *(("/predictions/compiled", body) for body in values),
        *((path, ONE) for path in WRONG_PATHS),
        *(("/v2/models/linear/infer", body) for body in WRONG_INFERENCES),
    ]
    assert len(answers) >= 200
    for path, body in answers:
        answer = server.ask(path, body)
        assert 400 <= answer.status < 500, (path, body[:200], answer)
        assert answer.json["error"]
    for length in ("x", "-1", "999", "99999999999999999999", "10"):
        answer = server.ask("/v2/models/linear/infer", INPUT, Inference_Header_Content_Length=length)
        assert answer.status == 400
    assert server.predict("linear", tensor([1, 2, 3], [1, 3])).status == 200


def test_what_is_no_http_is_an_error(server: Server) -> None:
    import socket

    for text in (
        b"\r\n\r\nGARBAGE\r\n\r\n",
        b"GET /ping HTTP/9.9\r\n\r\n",
        b"GET  /ping\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
        b"POST /serve HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /serve HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /serve HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(text)
            answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 4"), (text[:50], answer)
        assert b'{"error":' in answer


def test_a_plus_in_a_query_is_a_space_and_in_a_path_a_plus(project: Path, tmp_path: Path) -> None:
    models = copied(project, tmp_path / "models", "linear.pt")
    shutil.copy(models / "linear.pt", models / "a b+c.pt")
    with serving(project, models) as server:
        for query in (urlencode({"servable_identifier": "a b+c.pt"}), "servable_identifier=a%20b%2Bc.pt"):
            assert server.ask(f"/serve?{query}", ONE).status == 200, query
        assert server.ask("/predictions/a%20b+c", ONE).status == 200


def test_no_link_leads_out_of_the_directory(project: Path, tmp_path: Path) -> None:
    models = copied(project, tmp_path / "models", "linear.pt")
    outside = copied(project, tmp_path / "outside", "other.pt")
    (models / "out.pt").symlink_to(outside / "other.pt")
    (models / "there").symlink_to(outside)
    (models / "same.pt").symlink_to("linear.pt")
    (models / "fifo.pt").mkdir()
    with serving(project, models) as server:
        for name, status in (("out.pt", 403), ("there/other.pt", 403), ("same.pt", 200), ("fifo.pt", 404)):
            assert server.ask(f"/serve?servable_identifier={name}", ONE).status == status, name
        assert server.ask("/predictions/out", ONE).status == 404
        names = [each["name"] for each in server.ask("/models").json["models"]]
        assert names == ["linear", "same"]


def test_models_in_directories_are_listed_and_answer_to_their_names(project: Path, tmp_path: Path) -> None:
    """At any depth, also in a directory that is made later; a link to a directory is no second one."""
    models = copied(project, tmp_path / "models", "linear.pt")
    copied(project, models / "a b/c", "linear.pt", "other.pt")
    copied(project, models / ".hidden", "linear.pt")
    (models / "again").symlink_to("a b")
    (models / "round").symlink_to("..")
    with serving(project, models) as server:

        def listed() -> dict[str, str]:
            return {each["name"]: each["file"] for each in server.ask("/models").json["models"]}

        before = {each: f"{each}.pt" for each in ("linear", "a b/c/linear", "a b/c/other")}
        assert listed() == before
        copied(project, models / "late/infer", "linear.pt")
        assert listed() == {**before, "late/infer/linear": "late/infer/linear.pt"}
        client = needed("tritonclient.http").InferenceServerClient(f"127.0.0.1:{server.port}")
        for name, file in listed().items():
            query = urlencode({"servable_identifier": file}, safe="/")
            assert server.ask(f"/serve?{query}", ONE).status == 200, name
            assert server.ask(f"/predictions/{quote(name)}", ONE).status == 200, name
            assert client.is_model_ready(name), name
            assert client.is_model_ready(name, "1"), name
            assert client.get_model_metadata(name)["name"] == name
            assert server.ask(f"/v2/models/{quote(name)}/infer", INPUT).json["model_name"] == name
            client.unload_model(name)
            assert not client.is_model_ready(name)
        assert server.ask("/v2/models/a%20b/c/versions/2/ready").status == 404
        assert server.ask("/predictions/a%20b%2Fc%2Flinear", ONE).status == 400
        (models / "late/infer/linear.pt").unlink()
        assert listed() == before


def test_the_repository_says_why_a_model_is_unavailable(project: Path, tmp_path: Path) -> None:
    """What loading it answered, until the file is another one or is loaded."""
    models = copied(project, tmp_path / "models", "linear.pt")
    (models / "damaged.pt").write_bytes((models / "linear.pt").read_bytes()[:100])
    (models / "archive.mar").write_bytes(b"no archive")
    with serving(project, models) as server:

        def states() -> dict[str, tuple[str, str]]:
            index = server.ask("/v2/repository/index", "{}").json
            return {each["name"]: (each["state"], each["reason"]) for each in index}

        assert states() == dict.fromkeys(("archive", "damaged", "linear"), ("UNAVAILABLE", "not loaded yet"))
        for name in ("archive", "damaged"):
            answer = server.ask(f"/v2/repository/models/{name}/load", "{}")
            assert answer.status == 422
            assert states()[name] == ("UNAVAILABLE", answer.json["error"])
        assert server.ask("/v2/repository/models/linear/load", "{}").status == 200
        assert states()["linear"] == ("READY", "")
        assert server.ask("/v2/repository/models/linear/unload", "{}").status == 200
        assert states()["linear"] == ("UNAVAILABLE", "unloaded")
        shutil.copy(models / "linear.pt", models / "new.pt")
        (models / "new.pt").replace(models / "damaged.pt")
        assert states()["damaged"] == ("UNAVAILABLE", "not loaded yet")
        assert server.ask("/predictions/damaged", ONE).status == 200
        assert states()["damaged"] == ("READY", "")


def test_tritons_client_works_unchanged(server: Server) -> None:
    client_module = needed("tritonclient.http")
    numpy = needed("numpy")
    client = client_module.InferenceServerClient(f"127.0.0.1:{server.port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("linear")
    assert client.is_model_ready("linear", "1")
    assert not client.is_model_ready("none")
    about = client.get_model_metadata("compiled")
    assert about["platform"] == "pytorch_aotinductor"
    assert about["inputs"] == [{"name": "input0", "datatype": "FP32", "shape": [-1, 3]}]
    assert about["outputs"] == [{"name": "output0", "datatype": "FP32", "shape": [-1, 2]}]
    rows = numpy.array([[1, 2, 3], [4, 5, 6]], numpy.float32)
    results = []
    for binary in (True, False):
        given = client_module.InferInput("x", list(rows.shape), "FP32")
        given.set_data_from_numpy(rows, binary_data=binary)
        for outputs in (None, [client_module.InferRequestedOutput("output0", binary_data=binary)]):
            answer = client.infer("linear", [given], outputs=outputs, request_id="7")
            assert answer.get_response()["id"] == "7"
            results.append(answer.as_numpy("output0"))
    assert all(numpy.array_equal(each, results[0]) for each in results)
    assert results[0].shape == (2, 2)
    text = client_module.InferInput("name", [1], "BYTES")
    text.set_data_from_numpy(numpy.array(["héllo"], dtype=object))
    number = client_module.InferInput("n", [1], "INT64")
    number.set_data_from_numpy(numpy.array([3]))
    scale = client_module.InferInput("scale", [1], "FP64")
    scale.set_data_from_numpy(numpy.array([0.5]))
    answer = client.infer("several", [given, number, scale, text])
    assert answer.as_numpy("output0") == pytest.approx(rows * 1.5)
    assert answer.as_numpy("output1").tolist() == [3]
    assert answer.as_numpy("output2").tolist() == ["héllo".encode()]
    with pytest.raises(needed("tritonclient.utils").InferenceServerException, match="no such model"):
        client.infer("none", [given])


def test_models_are_loaded_and_unloaded_on_purpose(project: Path, tmp_path: Path) -> None:
    client_module = needed("tritonclient.http")
    with serving(project, copied(project, tmp_path / "models", "linear.pt", "other.pt")) as server:
        client = client_module.InferenceServerClient(f"127.0.0.1:{server.port}")

        def states() -> dict[str, str]:
            return {each["name"]: each["state"] for each in client.get_model_repository_index()}

        assert states() == {"linear": "UNAVAILABLE", "other": "UNAVAILABLE"}
        client.load_model("linear")
        assert states() == {"linear": "READY", "other": "UNAVAILABLE"}
        client.unload_model("linear")
        assert states() == {"linear": "UNAVAILABLE", "other": "UNAVAILABLE"}
        assert not client.is_model_ready("linear")
        assert server.ask("/predictions/linear", ONE).status == 400
        client.load_model("linear")
        assert server.ask("/predictions/linear", ONE).status == 200


def test_the_page_shows_each_model_and_tries_it(server: Server, tmp_path: Path) -> None:
    connect = needed("websockets.sync.client").connect
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0")
    assert server.predict("linear", tensor([1, 2, 3], [1, 3])).status == 200
    chrome = shutil.which("google-chrome") or program("chromium")
    command = [chrome, *options, f"--user-data-dir={tmp_path}", "about:blank"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            address = tmp_path / "DevToolsActivePort"
            until(lambda: address.is_file() and address.read_text().count("\n") == 1)
            port = address.read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as listed:
                (page,) = [each for each in json.load(listed) if each["type"] == "page"]
            with connect(page["webSocketDebuggerUrl"], max_size=None) as socket:

                def call(method: str, **parameters: object) -> Any:
                    socket.send(json.dumps({"id": 1, "method": method, "params": parameters}))
                    while True:
                        answer = json.loads(socket.recv(60))
                        if answer.get("id") == 1:
                            return answer["result"]

                def evaluated(expression: str) -> Any:
                    return call("Runtime.evaluate", expression=expression)["result"].get("value")

                call("Page.navigate", url=f"http://127.0.0.1:{server.port}/")
                part = "[...document.querySelectorAll('section')].find(each => each.innerText.startsWith('linear'))"
                until(lambda: evaluated(f"{part}.querySelectorAll('td').length === 8"))
                text = evaluated(f"{part}.innerText")
                assert "linear.pt, loaded, pytorch_torchscript" in text
                assert "output0\tFP32" in text
                given = json.dumps(json.dumps([tensor([1, 2, 3], [1, 3])]))
                evaluated(f"{part}.querySelector('details').open = true")
                evaluated(f"{part}.querySelector('textarea').value = {given}")
                evaluated(f"{part}.querySelector('details button').click()")
                until(
                    lambda: '"shape":[1,2]' in (evaluated(f"{part}.querySelector('pre').textContent") or "")
                )
        finally:
            browser.kill()
