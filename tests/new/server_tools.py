"""A server of `torchlink new server`, built once for all tests, started, and spoken to over real sockets."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.conftest import made_once, unmet

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

TORCHLINK = Path(sys.executable).parent / "torchlink"
HEADERS = ("boost/beast.hpp", "simdjson.h", "png.h", "jpeglib.h", "zlib.h", "zip.h")

MODELS = """
import sys
import torch

class Linear(torch.nn.Module):
    def __init__(self, inner: int, outer: int, scale: float = 1.0):
        super().__init__()
        torch.manual_seed(0)
        self.fc = torch.nn.Linear(inner, outer)
        self.fc.weight.data *= scale

    def forward(self, x):
        return self.fc(x)

class Identity(torch.nn.Module):
    def forward(self, x):
        return x

class Throws(torch.nn.Module):
    def forward(self, x):
        if bool(x.sum() > 0):
            raise ValueError("too large: x")
        return x

class Centered(torch.nn.Module):
    def forward(self, x):
        return x - x.mean(0)

class Slow(torch.nn.Module):
    def forward(self, x, rounds: int):
        y = torch.ones([64, 64])
        for _ in range(rounds):
            y = torch.mm(y, y) * 0.0001
        return x + y.sum() * 0.0

class Several(torch.nn.Module):
    def forward(self, x, n: int = 2, scale: float = 1.0, name: str = "a"):
        return x * n * scale, n, name, {"x": x}

for name, model in {
    "linear": Linear(3, 2), "large": Linear(1024, 1024), "other": Linear(3, 2, 2.0), "identity": Identity(),
    "throws": Throws(), "centered": Centered(), "slow": Slow(), "several": Several(),
}.items():
    torch.jit.script(model.eval()).save(f"{sys.argv[1]}/{name}.pt")

batch = torch.export.Dim("batch", max=1024)
exported = torch.export.export(Linear(3, 2), (torch.ones(4, 3),), dynamic_shapes=({0: batch},))
torch._inductor.aoti_compile_and_package(exported, package_path=f"{sys.argv[1]}/compiled.pt2")
"""


def built(factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the project, built and tested by its own commands."""
    present = {
        path
        for path in HEADERS
        if any((Path(root) / path).is_file() for root in ("/usr/include", *_multiarch()))
    }
    missing = sorted(set(HEADERS) - present)
    if missing:
        unmet(" and ".join(missing))
    return made_once(factory, "server", _build)


def _multiarch() -> list[str]:
    return [str(path) for path in Path("/usr/include").glob("*-linux-gnu*")]


def environment() -> dict[str, str]:
    """Return what a user's shell has: no LD_LIBRARY_PATH."""
    kept = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    return {**kept, "PATH": f"{TORCHLINK.parent}:{os.environ['PATH']}"}


def _build(directory: Path) -> None:
    project = directory / "project"
    subprocess.run([TORCHLINK, "new", "server", project], check=True, env=environment(), capture_output=True)
    listed = subprocess.run(
        [TORCHLINK, "new", "--list", "--json"], check=True, env=environment(), capture_output=True, text=True
    )
    (kind,) = [each for each in json.loads(listed.stdout)["kinds"] if each["name"] == "server"]
    assert kind["serves"]
    for command in kind["commands"][:-1]:
        ran = subprocess.run(
            command, shell=True, cwd=project, env=environment(), capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, f"{command}\n{ran.stdout[-4000:]}{ran.stderr[-4000:]}"
    models = directory / "models"
    models.mkdir()
    script = directory / "models.py"  # TorchScript reads the source of its classes
    script.write_text(MODELS)
    subprocess.run([sys.executable, "-W", "ignore", script, models], check=True)


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Server(NamedTuple):
    """A server that runs."""

    process: subprocess.Popen[str]
    port: int
    models: Path

    def ask(self, path: str, body: str | bytes | None = None, **headers: str) -> Answer:
        """GET without a body, POST with one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("GET" if body is None else "POST", path, body, fields)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read())
        finally:
            connection.close()

    def predict(self, name: str, *arguments: object) -> Answer:
        """POST /predictions/NAME."""
        return self.ask(f"/predictions/{name}", json.dumps(arguments))

    def metric(self, name: str) -> float:
        """One line of /metrics: its value."""
        text = self.ask("/metrics").body.decode()
        found = re.search(rf"^{re.escape(name)} (.*)$", text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def serving(project: Path, models: Path, *options: str) -> Iterator[Server]:
    """Run the server on a free port."""
    command = [str(project / "project/build/server"), "--models", str(models), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={}) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield Server(process, int(line.rsplit(":", 1)[1]), models)
        finally:
            process.kill()


def copied(project: Path, to: Path, *names: str) -> Path:
    """Return a directory with some of the models."""
    to.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(project / "models" / name, to / name)
    return to


def tensor(value: object, shape: list[int], dtype: str = "float32") -> dict[str, object]:
    """A tensor in the marshalling."""
    return {"type": "tensor", "data_type": dtype, "shape": shape, "value": value}
