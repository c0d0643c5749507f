"""Queries to the live loaders, and libraries built with real compilers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torchlink.binary.closure import Closure

LOADERS = {
    "x86_64": "/lib64/ld-linux-x86-64.so.2",
    "x86": "/lib/ld-linux.so.2",
}
LINE = re.compile(r"^\t(?:(.+) => )?(.+?)(?: \(0x[0-9a-f]+\))?$")
KERNEL_OBJECTS = ("linux-vdso", "linux-gate")


@dataclass(frozen=True)
class Trace:
    """What a live loader said: the objects in load order, and what it did not find."""

    objects: list[str]
    missing: list[str]
    error: str


def trace(
    file: Path | str,
    machine: str = "x86_64",
    environment: Mapping[str, str] | None = None,
    *,
    cwd: Path | None = None,
) -> Trace:
    """The objects that the live glibc loader would load for a library or program, in its order."""
    return parse([LOADERS[machine], str(file)], environment, cwd)


def trace_program(
    program: Path | str, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Trace:
    """The same for a program that the tests built, started by the kernel as users start it."""
    return parse([str(program)], environment, cwd)


def parse(command: Sequence[str], environment: Mapping[str, str] | None, cwd: Path | None) -> Trace:
    """Run a loader in trace mode and read its lines."""
    done = subprocess.run(
        command,
        env={"LD_TRACE_LOADED_OBJECTS": "1", **(environment or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        timeout=60,
    )
    objects: list[str] = []
    missing: list[str] = []
    for line in done.stdout.splitlines():
        found = LINE.match(line)
        if found is None or "statically linked" in line or any(name in line for name in KERNEL_OBJECTS):
            continue
        name, target = found.groups()
        if target == "not found":
            missing.append(name)
        else:
            objects.append(target)
    errors = [line for line in done.stderr.splitlines() if not line.endswith("ignored.")]
    return Trace(objects, sorted(missing), "\n".join(errors))


def modelled(closure: Closure) -> Trace:
    """A closure in the same terms. A loader that nothing asks for by name is loaded but not traced."""
    asked = {edge.path for edge in closure.edges}
    objects = [
        each.name if each.found_via.kind == "path" and not each.name.startswith("/") else each.path
        for each in closure.objects[1:]
        if each.found_via.kind != "interpreter" or each.path in asked
    ]
    missing = sorted(edge.name for edge in closure.edges if edge.missing)
    fatal = next((edge.fatal for edge in closure.edges if edge.fatal and not edge.optional), None)
    return Trace(objects, missing, fatal or "")


def elf_files(*tops: str) -> Iterator[Path]:
    """The programs and shared libraries below these directories, in a fixed order, symlinks left out."""
    for top in tops:
        for directory, subdirectories, names in os.walk(top):
            subdirectories[:] = sorted(name for name in subdirectories if name != "debug")
            for name in sorted(names):
                path = Path(directory, name)
                if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
                    continue
                with path.open("rb") as file:
                    head = file.read(18)
                if head[:4] == b"\x7fELF" and head[16:18] in {b"\x02\x00", b"\x03\x00"}:
                    yield path


@dataclass
class Workshop:
    """Builds small libraries and programs that need one another, with a real compiler."""

    directory: Path
    compiler: str = "gcc"
    machine_flags: tuple[str, ...] = ()
    built: int = field(default=0)

    def library(
        self,
        file: str,
        *needed: Path | str,
        soname: str | None = "",
        rpath: str | None = None,
        runpath: str | None = None,
        flags: Sequence[str] = (),
        source: str | None = None,
    ) -> Path:
        """A shared library at `file` below the directory; its SONAME is the file's name; None: none."""
        path = self.directory / file
        path.parent.mkdir(parents=True, exist_ok=True)
        name = path.name if soname == "" else soname
        words = ["-shared", "-fPIC", "-nostdlib", *([f"-Wl,-soname,{name}"] if name else []), *flags]
        text = source or f"int made_{self.built}(void) {{ return 0; }}\n"
        self._build(path, [*words, *search_words(rpath, runpath)], needed, text)
        return path

    def program(
        self,
        file: str,
        *needed: Path | str,
        rpath: str | None = None,
        runpath: str | None = None,
        flags: Sequence[str] = (),
        source: str = "int main(void) { return 0; }\n",
    ) -> Path:
        """A program at `file` below the directory."""
        path = self.directory / file
        path.parent.mkdir(parents=True, exist_ok=True)
        lenient = "-Wl,--unresolved-symbols=ignore-in-shared-libs"
        self._build(path, [lenient, *flags, *search_words(rpath, runpath)], needed, source)
        return path

    def _build(
        self,
        path: Path,
        words: Sequence[str],
        needed: Sequence[Path | str],
        source: str,
    ) -> None:
        self.built += 1
        subprocess.run(
            [
                self.compiler,
                *self.machine_flags,
                "-x",
                "c",
                "-",
                "-x",
                "none",
                "-o",
                str(path),
                *words,
                "-Wl,--no-as-needed",
                "-Wl,--allow-shlib-undefined",
                *map(str, needed),
            ],
            input=source,
            text=True,
            check=True,
            capture_output=True,
            cwd=self.directory,
        )


def search_words(rpath: str | None, runpath: str | None) -> list[str]:
    """The linker's words for a DT_RPATH or a DT_RUNPATH."""
    if rpath is not None:
        return ["-Wl,--disable-new-dtags", f"-Wl,-rpath,{rpath}"]
    return [] if runpath is None else ["-Wl,--enable-new-dtags", f"-Wl,-rpath,{runpath}"]


def usable(program: str) -> bool:
    """Whether a program is on PATH."""
    return shutil.which(program) is not None
