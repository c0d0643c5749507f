"""The program against the same model in plain Python: test_program.py PROGRAM PACKAGE.pt PLAIN_PROGRAM."""

import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from torch.package import PackageImporter

warnings.filterwarnings("ignore", message="TypedStorage is deprecated")  # torch.package uses it itself
program, package, plain = sys.argv[1:]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(arguments, capture_output=True, text=True, timeout=250, check=False)


model = PackageImporter(package).load_pickle("model", "model.pkl")
with torch.no_grad():
    expected = model(torch.ones(1, 1, 10, 10)).flatten()[:5].tolist()

lines = [
    [program, package],
    [program, package, "--interpreters", "2", "--threads", "3", "--repeat", "12", "--shape=1,1,10,10"],
    [program, package, "--interpreters", "2", "--isolate", "process", "--repeat", "12"],
    *([[plain, package]] if plain else []),
]
for line in lines:
    done = run(*line)
    assert done.returncode == 0, (line, done.stderr)
    printed = [float(number) for number in done.stdout.splitlines()[0].split()]
    assert all(abs(one - other) < 1e-4 for one, other in zip(printed, expected, strict=True)), (
        printed,
        expected,
    )

failed = run(program, package, "--shape", "1,1,10,3")
assert failed.returncode == 1, failed.stderr
assert "Traceback" in failed.stderr, failed.stderr
assert "shape" in failed.stderr, failed.stderr
with tempfile.TemporaryDirectory() as directory:
    archive = Path(directory, "archive.pt")
    torch.save({}, archive)  # of another kind
    for file, part in (
        (Path("/no/such/file.pt"), "No such file"),
        (archive, "not a package of torch.package"),
    ):
        failed = run(program, str(file))
        assert failed.returncode == 1, file
        last = failed.stderr.splitlines()[-1]  # behind the warnings of torch without NumPy
        assert last.startswith(f"embedded-python: {file}: {part}"), failed.stderr
assert run(program, package, "--interpreters", "none").returncode == 2
print("ok")
