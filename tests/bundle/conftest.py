"""Small programs and libraries to bundle, and the live loader to see what a bundle loads."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.binary.live import LOADERS, Trace, Workshop, trace_program, usable
from tests.conftest import unmet

GLIBC = ("libc.so.", "libm.so.", "libdl.so.", "libpthread.so.", "librt.so.", "ld-linux")


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """Builds into `build` below the test's directory."""
    if not usable("gcc") or os.uname().machine != "x86_64" or not Path(LOADERS["x86_64"]).exists():
        unmet("gcc and glibc on x86_64")
    if not usable("patchelf"):
        unmet("patchelf")
    (tmp_path / "build").mkdir()
    return Workshop(tmp_path / "build")


def moved(bundle: Path, *gone: Path) -> Path:
    """The bundle in another place, whose path has a space and a colon in it; `gone` is deleted."""
    place = bundle.parent / "an other: place"
    bundle.rename(place)
    for path in gone:
        shutil.rmtree(path)
    return place


def loaded(program: Path) -> Trace:
    """What the live loader loads for a program with an empty environment; it must not complain."""
    trace = trace_program(program)
    assert not trace.error, trace.error
    assert not trace.missing, trace.missing
    return trace


def outside(program: Path) -> list[str]:
    """What a program of a bundle loads from elsewhere, glibc aside."""
    inside = f"{program.parent.resolve()}/"
    return [
        path
        for path in loaded(program).objects
        if not path.startswith(inside) and not Path(path).name.startswith(GLIBC)
    ]
