"""Models that share a forked process, and what ends the sharing: nothing of a model reaches the next."""

from __future__ import annotations

import json
import mmap
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import needed
from torchlink.paths import data_dir
from torchlink.verify import session

torch = needed("torch")

from torch import Tensor, nn  # noqa: E402 - needs torch

from tests.verify.small_models import save  # noqa: E402 - needs torch
from tests.verify.test_bad_models import AlwaysCrashes  # noqa: E402 - needs torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

pytestmark = [
    pytest.mark.compile,
    pytest.mark.skipif(sys.platform != "linux", reason="forked loaders are Linux's"),
]
TINY = data_dir("templates") / "loader" / "tiny.pt"


@pytest.fixture
def verify(verify: Callable[..., Result]) -> Callable[..., Result]:
    """One worker, whose processes are counted."""
    return lambda *arguments: verify(*arguments, "-j", "1")


class Random(nn.Module):
    """Takes from, and seeds, the random numbers of the process."""

    def forward(self, x: Tensor) -> Tensor:
        drawn = torch.rand(2) + x.sum() * 0
        torch.manual_seed(7)
        return drawn


class Drawing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.rand(2) + x.sum() * 0


class Switching(nn.Module):
    """Leaves another gradient mode, as it is loaded."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2

    @torch.jit.export
    def __getstate__(self) -> tuple[bool]:
        return (self.training,)

    @torch.jit.export
    def __setstate__(self, state: tuple[bool]) -> None:
        torch.set_grad_enabled(False)
        self.training = state[0]


class Printing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        print("printed")
        return x * 2


class Particular(nn.Module):
    """Prints only where the input does not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 5))

    def forward(self, x: Tensor) -> Tensor:
        if x.size(-1) != 12:
            print("not twelve")
        return x @ self.weight.repeat(3, 1)


class Warns(nn.Module):
    """Has libtorch give a warning that it gives once, in a call whose output is discarded."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 1:
            return torch.meshgrid([x[0], x[0]])[0]
        return x


class Large(nn.Module):
    """Takes 40 MiB for a moment."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.zeros(40 << 20, dtype=torch.uint8).sum()


class SecondTry(nn.Module):
    """Fails the first time that it is run: the file that it counts in is shared by all processes."""

    def __init__(self, counter: str) -> None:
        super().__init__()
        self.counter = counter

    def forward(self, x: Tensor) -> Tensor:
        count = torch.from_file(self.counter, shared=True, size=1, dtype=torch.int64)
        count += 1
        if int(count) == 1:
            raise ValueError("the first time")
        return x


class Growing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(20_000_000, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (self.weight @ x[:1, :1].float()).sum(0) + x


class Branching(nn.Module):
    """Leaves a thread of libtorch's pool."""

    def forward(self, x: Tensor) -> Tensor:
        future = torch.jit.fork(torch.relu, x)
        return torch.jit.wait(future)


def copies(directory: Path, count: int) -> Path:
    """The bundled model so often, as 0.pt, 1.pt, …"""
    for number in range(count):
        shutil.copy(TINY, directory / f"{number}.pt")
    return directory


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of processes forked so far, after each fork."""
    forks: list[int] = []
    fork = session.Session._fork

    def counted(own: session.Session) -> bool:
        forks.append(len(forks) + 1)
        return fork(own)

    monkeypatch.setattr(session.Session, "_fork", counted)
    return forks


def test_small_models_that_change_nothing_share_processes(
    verify: Callable[..., Result], tmp_path: Path, forked: list[int]
) -> None:
    count = 2 * session.MOST_MODELS + 1
    copies(tmp_path, count)
    report = json.loads(verify(tmp_path, "--json").out)
    assert report["summary"]["ok"] == count
    assert len(forked) == 3
    peaks = [model["peak_rss_mb"] for model in report["models"]]
    assert max(peaks) - min(peaks) < 16


@pytest.mark.parametrize("module", [Drawing, Switching, Printing, Warns, Large, Growing, Branching])
def test_a_model_that_changes_its_process_is_its_last(
    module: Callable[[], nn.Module], verify: Callable[..., Result], tmp_path: Path, forked: list[int]
) -> None:
    for number in range(3):
        save(module(), tmp_path / f"{number}.pt")
    assert verify(tmp_path, "--input", "float32[1,4]").code == 0
    assert len(forked) == 3


def test_a_model_with_a_library_gets_a_process_of_its_own(
    verify: Callable[..., Result], tmp_path: Path, forked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none.c").write_text("int none;\n")
    subprocess.run(["cc", "-shared", "-fPIC", "none.c", "-o", "libnone.so"], check=True, timeout=60)
    copies(tmp_path, 3)
    (tmp_path / "torchlink.toml").write_text('[[model]]\npath = "1.pt"\nlibrary = "libnone.so"\n')
    assert verify(*sorted(tmp_path.glob("*.pt"))).code == 0
    assert len(forked) == 3


def test_what_was_printed_for_inputs_that_did_not_fit_counts_too(
    verify: Callable[..., Result], tmp_path: Path, forked: list[int]
) -> None:
    for number in range(2):
        save(Particular(), tmp_path / f"{number}.pt")
    report = json.loads(verify(tmp_path, "--json").out)
    assert [(model["ok"], model["printed"]) for model in report["models"]] == [(True, "")] * 2
    assert min(model["input_tries"] for model in report["models"]) > 1
    assert len(forked) == 2


def test_a_model_that_fails_in_a_shared_process_is_run_in_its_own(
    verify: Callable[..., Result], tmp_path: Path, forked: list[int]
) -> None:
    shutil.copy(TINY, tmp_path / "1.pt")
    save(AlwaysCrashes(), tmp_path / "2-crashes.pt")
    shutil.copy(TINY, tmp_path / "3.pt")
    report = json.loads(verify(tmp_path, "--input", "float32[1,4]", "--json").out)
    assert [model["ok"] for model in report["models"]] == [True, False, True]
    assert report["models"][1]["signal"] == "SIGSEGV"
    assert len(forked) == 3, "of 1.pt, in which 2-crashes.pt crashes; of its second run; of 3.pt"


def test_a_model_that_is_ok_in_its_own_process_only_has_a_note(
    verify: Callable[..., Result], tmp_path: Path
) -> None:
    counter = tmp_path / "counter"
    shutil.copy(TINY, tmp_path / "1.pt")
    save(SecondTry(str(counter)), tmp_path / "2.pt")
    words = (tmp_path, "--input", "float32[1,4]")
    counter.write_bytes(bytes(8))
    shown = verify(*words)
    assert shown.code == 0
    assert "note      It failed first, in a process that had run other models: " in shown.out
    counter.write_bytes(bytes(8))
    first, second = json.loads(verify(*words, "--json").out)["models"]
    assert "failed_first" not in first
    assert "the first time" in second["failed_first"]


def test_the_memory_of_others_is_not_in_a_models_peak(
    verify: Callable[..., Result], tmp_path: Path, forked: list[int]
) -> None:
    shutil.copy(TINY, tmp_path / "1.pt")
    save(Large(), tmp_path / "2.pt")
    words = ("--input", "float32[1,4]", "--json")
    assert json.loads(verify(tmp_path, *words).out)["summary"]["ok"] == 2
    assert len(forked) == 2, "of 1.pt, where 2.pt takes too much; of 2.pt"


@pytest.mark.parametrize("option", ["--memory-limit=4G", "--record=golden"])
def test_what_cannot_be_repeated_or_is_limited_shares_nothing(
    option: str,
    verify: Callable[..., Result],
    tmp_path: Path,
    forked: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    copies(tmp_path, 3)
    assert verify(*sorted(tmp_path.glob("*.pt")), option).code == 0
    assert len(forked) == 3


def test_what_a_model_leaves_behind_does_not_reach_the_next(
    verify: Callable[..., Result], tmp_path: Path
) -> None:
    for number in range(4):
        save(Random(), tmp_path / f"{number}.pt")
    report = json.loads(verify(tmp_path, "--json").out)
    drawn = [model["outputs"][0]["values"] for model in report["models"]]
    assert len({tuple(values) for values in drawn}) == 4  # else a seed of the one before holds


def test_a_loader_shares_its_heap_with_forked_processes_in_huge_pages(
    verify: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.write(bytes(8 << 20))
        try:
            memory.madvise(25)  # MADV_COLLAPSE
        except OSError:
            pytest.skip("this kernel makes no huge pages on demand")
    sizes: list[int] = []
    fork = session.Session._fork

    def measured(own: session.Session) -> bool:
        done = fork(own)
        for line in Path(f"/proc/{own._process.pid}/smaps_rollup").read_text().splitlines():
            sizes.extend(int(line.split()[1]) for _ in range(line.startswith("AnonHugePages:")))
        return done

    monkeypatch.setattr(session.Session, "_fork", measured)
    for number in range(9):  # from the eighth process on
        save(Drawing(), tmp_path / f"{number}.pt")
    assert verify(tmp_path).code == 0
    assert sizes[-1] > 10 << 10  # KiB
