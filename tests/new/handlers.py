"""A server that is running, archives for it, and the handler of these tests."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import REPOSITORY, made_once, program

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

ONES = [{"type": "tensor", "data_type": "float32", "shape": [1, 4], "value": [1, 1, 1, 1]}]
# Does what its request says. Its version is replaced in the built library.
SAMPLE = r"""
#include "handler.h"

#include <unistd.h>

#include <csignal>
#include <fstream>

// Not constant, so that it stands in the library as it is here.
__attribute__((visibility("default"))) char version[] = "version-1 ";

class SampleHandler : public handlers::BaseHandler {
 public:
  void Handle(const handlers::Request& request, handlers::Response& response) override {
    if (request.content_type != "text/plain") return BaseHandler::Handle(request, response);
    if (request.body == "crash") std::raise(SIGSEGV);
    if (request.body == "hang") for (;;) pause();
    if (request.body == "slow") {
      std::ofstream(model_dir_ + "/slow") << "started";
      sleep(1);
    }
    if (request.body == "throw") throw std::runtime_error("on demand");
    if (request.body == "refuse") throw handlers::BadRequest("not this");
    response.content_type = "text/plain";
    response.body = version + std::to_string(getpid());
  }
};

HANDLER(SampleHandler);
"""


def created(kind: str, directory: Path, *options: str) -> list[str]:
    """Make a project of a kind and return its commands."""
    words = [sys.executable, "-m", "torchlink", "new", kind, str(directory), *options, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    commands: list[str] = json.loads(done.stdout)["commands"]
    return commands


def run(line: str, directory: Path, *, code: int = 0) -> str:
    """Run a shell line in a directory and return its output."""
    done = subprocess.run(
        line, shell=True, cwd=directory, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == code, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def handler_project(factory: pytest.TempPathFactory) -> Path:
    """A new project, built and tested, as its commands do it."""

    def make(directory: Path) -> None:
        for line in created("handler", directory / "my_model")[:2]:
            run(line, directory / "my_model")

    return made_once(factory, "new-handler", make) / "my_model"


def sample_library(factory: pytest.TempPathFactory) -> Path:
    """`libsample_handler.so` with the handler above."""

    def make(directory: Path) -> None:
        project = directory / "sample"
        created("handler", project)
        (project / "src/sample_handler.cpp").write_text(SAMPLE)
        run("cmake --preset default && cmake --build --preset default --target sample_handler", project)

    return made_once(factory, "sample-handler", make) / "sample/build/libsample_handler.so"


def archive(directory: Path, name: str, handler: str, *more: str, model: Path | None = None) -> Path:
    """A `.mar` by the real torch-model-archiver, which takes the library from its current directory."""
    model = model or REPOSITORY / "templates/loader/tiny.pt"
    words = ["--model-name", name, "--version", "1.0", "--serialized-file", str(model), "--force"]
    with (
        tempfile.TemporaryDirectory() as own
    ):  # it works in, and removes, a directory of the model's name in there
        subprocess.run(
            [program("torch-model-archiver"), *words, "--runtime", "LSP", "--handler", handler, *more],
            cwd=directory,
            env={**os.environ, "TMPDIR": own},
            check=True,
            timeout=60,
        )
    return directory / f"{name}.mar"


@dataclass(frozen=True)
class Server:
    """A server that is running."""

    process: subprocess.Popen[str]
    port: int

    def request(self, path: str, body: object = None, kind: str = "application/json") -> tuple[int, str]:
        """Send a request (POST if it has a body) and return the status and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            text = body if isinstance(body, str) or body is None else json.dumps(body)
            method = "GET" if text is None else "POST"
            connection.request(method, path, text, {"Content-Type": kind})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def predict(self, name: str, body: object = ONES) -> tuple[int, str]:
        """Ask a model; a text goes as text/plain."""
        kind = "text/plain" if isinstance(body, str) else "application/json"
        return self.request(f"/predictions/{name}", body, kind)

    def workers(self) -> set[int]:
        """The processes that it has started."""
        found = set()
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(stat.read_text().rpartition(")")[2].split()[1]) == self.process.pid:
                    found.add(int(stat.parent.name))
        return found

    def stop(self) -> int:
        """End it in good order and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@contextlib.contextmanager
def serving(server: Path, models: Path, scratch: Path, *options: str | Path) -> Iterator[Server]:
    """Run a server on a directory of models."""
    words = [server, "--models", models, "--port", "0", *options]
    process = subprocess.Popen(
        [str(word) for word in words], stdout=subprocess.PIPE, text=True, env={"TMPDIR": str(scratch)}
    )
    assert process.stdout
    with process:
        try:
            listening = re.search(r":(\d+)$", process.stdout.readline().strip())
            assert listening
            yield Server(process, int(listening[1]))
        finally:
            process.kill()
