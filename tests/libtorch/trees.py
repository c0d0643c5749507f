"""Small libtorchs built for the tests: real shared libraries with the relevant symbols, and a few headers."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

NEW_STRING = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
CHECK_FAIL = {
    0: "_ZN3c106detail14torchCheckFailEPKcS2_jRKSs",
    1: f"_ZN3c106detail14torchCheckFailEPKcS2_jRK{NEW_STRING}",
}
SHOW_CONFIG = {0: "_ZN2at11show_configEv", 1: "_ZN2at11show_configB5cxx11Ev"}
ENVIRONMENT = dict(os.environ)  # as it is now: some tests empty PATH
YEAR = {11: 2011_03, 14: 2014_02, 17: 2017_03, 20: 2020_02, 23: 2023_02}


@dataclass(frozen=True)
class Library:
    """A shared library to build."""

    symbols: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    search_path: str | None = None
    new_dtags: bool = True  # RUNPATH, else RPATH
    constants: bytes = b""  # what .rodata holds
    code: str = ""  # assembler for x86_64


def build(path: Path, library: Library, soname: str | None = None) -> None:
    """Build a library at `path`; equal ones are linked once in a test session."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_built(library, soname or path.name), path)


@functools.cache
def _built(library: Library, soname: str) -> Path:
    directory = Path(tempfile.mkdtemp(dir=_workshop()))
    stubs = []
    for name in library.needed:
        stub = directory / "stubs" / name
        stub.parent.mkdir(exist_ok=True)
        _link(stub, "", (f"-Wl,-soname,{name}",))
        stubs.append(str(stub))
    lines = [f".globl {name}\n.type {name}, @function\n{name}:\n.byte 0" for name in library.symbols]
    data = ",".join(str(byte) for byte in library.constants)
    rodata = f".section .rodata\n.byte {data}" if data else ""
    options = [f"-Wl,-soname,{soname}", "-Wl,--no-as-needed", *stubs]
    if library.search_path is not None:
        dtags = "--enable-new-dtags" if library.new_dtags else "--disable-new-dtags"
        options.append(f"-Wl,{dtags},-rpath,{library.search_path}")
    out = directory / "built.so"
    _link(out, "\n".join((".text", library.code, *lines, rodata, "")), tuple(options))
    return out


def _link(out: Path, source: str, options: tuple[str, ...]) -> None:
    command = ["c++", "-shared", "-nostdlib", "-x", "assembler", "-", "-x", "none", *options, "-o", str(out)]
    subprocess.run(command, input=source, text=True, check=True, capture_output=True, env=ENVIRONMENT)


@functools.lru_cache(maxsize=1)
def _workshop() -> str:
    import atexit

    directory = tempfile.mkdtemp(prefix="torchlink-trees-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


@dataclass(frozen=True)
class Fake:
    """What the libtorch to make should be. Every field can be made to contradict the others."""

    version: str | None = "2.13.0+cpu"  # of version.py; None: no such file
    headers: str | None = "2.13.0"  # the version macros; None: no headers at all
    built: str | None = "2.13.0"  # the version compiled into libtorch_python
    cmake: str | None = "2.13.0"  # TorchConfigVersion.cmake
    abi: int = 1
    guard: int | None = 17  # the check in ATen/ATen.h
    declared: int | None = 20  # TorchConfig.cmake
    cuda: str | None = None  # of version.py
    libraries: tuple[str, ...] = ("torch_cpu", "torch", "torch_python", "shm")
    search_path: str = "$ORIGIN"
    new_dtags: bool = True
    needed: tuple[tuple[str, tuple[str, ...]], ...] = ()  # (library, what it needs besides)
    c10: Library = field(default_factory=Library)  # what to change of libc10


PLAIN = Fake()


def make(root: Path, fake: Fake = PLAIN, library_dir: str = "lib") -> Path:
    """Write the libtorch `fake` below `root`, in the layout of a pip install."""
    root.mkdir(parents=True, exist_ok=True)
    if fake.version is not None:
        (root / "__init__.py").touch()
        cuda = repr(fake.cuda)
        text = f"from typing import Optional\n__version__ = {fake.version!r}\ndebug = False\n"
        (root / "version.py").write_text(f"{text}cuda: Optional[str] = {cuda}\nhip: Optional[str] = None\n")
    if fake.headers is not None:
        write_headers(root / "include", fake.headers, fake.guard)
    if fake.declared is not None:
        cmake = root / "share/cmake/Torch"
        cmake.mkdir(parents=True)
        cmake.joinpath("TorchConfig.cmake").write_text(
            f'set_target_properties(torch PROPERTIES\n    X "Y"\n    CXX_STANDARD {fake.declared}\n)\n'
        )
        if fake.cmake is not None:
            text = f'set(PACKAGE_VERSION "{fake.cmake}")\n\n# check\n'
            cmake.joinpath("TorchConfigVersion.cmake").write_text(text)
    write_libraries(root / library_dir, fake)
    return root


def write_headers(include: Path, version: str, guard: int | None) -> None:
    """The headers that are read, and the directories that show that headers are there."""
    frontend = include / "torch/csrc/api/include/torch"
    for directory in (include / "ATen", include / "c10/util", frontend, include / "torch/headeronly"):
        directory.mkdir(parents=True, exist_ok=True)
    check = (
        f"#if !defined(_MSC_VER) && __cplusplus < {YEAR[guard]}L\n#error C++{guard} or later is required.\n#endif\n"
        if guard
        else ""
    )
    (include / "ATen/ATen.h").write_text(f"#pragma once\n\n{check}\n#include <ATen/Context.h>\n")
    (include / "c10/util/Exception.h").touch()
    (frontend / "torch.h").touch()
    major, minor, patch = version.split(".")
    (include / "torch/headeronly/version.h").write_text(
        f"#pragma once\n#define TORCH_VERSION_MAJOR {major}\n#define TORCH_VERSION_MINOR {minor}\n"
        f'#define TORCH_VERSION_PATCH {patch}\n#define TORCH_VERSION \\\n  "{version}"\n'
    )


def write_libraries(directory: Path, fake: Fake) -> None:
    """The shared libraries of a fake."""
    needed = dict(fake.needed)
    producer = f"TRAINING\0{fake.built}\0PRODUCER_VERSION\0".encode() if fake.built else b""
    symbols = {"torch_cpu": (SHOW_CONFIG[fake.abi],)}
    stub = tuple(f"lib{bare}.so" for bare in fake.libraries if bare in {"torch_cpu", "torch_cuda"})
    c10 = fake.c10.symbols or (CHECK_FAIL[fake.abi],)
    for bare in ("c10", *fake.libraries):
        build(
            directory / f"lib{bare}.so",
            Library(
                symbols=c10 if bare == "c10" else symbols.get(bare, ()),
                needed=(*(stub if bare == "torch" else ()), *needed.get(bare, ())),
                search_path=fake.search_path,
                new_dtags=fake.new_dtags,
                constants=producer if bare == "torch_python" else b"",
                code=fake.c10.code if bare == "c10" else "",
            ),
        )


def make_site(prefix: Path, fake: Fake = PLAIN, python: str = "python3.11") -> Path:
    """A torch in the site-packages of a prefix; returns its root."""
    return make(prefix / "lib" / python / "site-packages" / "torch", fake)


def make_venv(prefix: Path, python: str = "3.11", **config: str) -> Path:
    """A virtual environment's skeleton, as `python -m venv` leaves it."""
    site = prefix / "lib" / f"python{python}" / "site-packages"
    site.mkdir(parents=True, exist_ok=True)
    (prefix / "bin").mkdir(exist_ok=True)
    for name in ("python", "python3"):
        (prefix / "bin" / name).symlink_to(os.path.realpath("/bin/sh"))
    settings = {"home": "/nowhere/bin", "include-system-site-packages": "false", "version": f"{python}.7"}
    lines = (f"{key} = {value}\n" for key, value in {**settings, **config}.items())
    (prefix / "pyvenv.cfg").write_text("".join(lines))
    return site
