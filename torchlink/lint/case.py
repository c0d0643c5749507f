"""What a rule is given: one binary's closure, and what the user wants of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchlink.binary.bindings import Scope
    from torchlink.binary.closure import Closure, LoadedObject
    from torchlink.binary.elf import ElfFile

# What programs link of a libtorch; the rest of its libraries is for Python or for tests.
LINKABLE = ("c10", "c10_cuda", "c10_hip", "c10_xpu", "torch_cpu", "torch_cuda", "torch_hip", "torch_xpu")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a binary is judged against."""

    floors: Mapping[str, tuple[int, ...]] = field(
        default_factory=dict
    )  # "GLIBC" -> (2, 31): the newest allowed
    target: str | None = None  # as the user named it: "debian:12", "glibc=2.31"
    allowed_rpath: tuple[str, ...] = ()  # prefixes that a search path entry may have; () allows any
    environment: Mapping[str, str] = field(default_factory=dict)  # LD_LIBRARY_PATH as the binary will be run


class Case:
    """One binary, its closure and what is derived from them once for all rules."""

    def __init__(self, closure: Closure, scope: Scope, wanted: Wanted, kind: str) -> None:
        self.closure = closure
        self.scope = scope
        self.wanted = wanted
        self.kind = kind  # as in `FileReport.kind`

    @property
    def subject(self) -> LoadedObject:
        """The binary that is judged."""
        return self.closure.subject

    @cached_property
    def name(self) -> str:
        """How messages call the binary: its file name."""
        return PurePosixPath(self.subject.path).name

    @cached_property
    def complete(self) -> bool:
        """Whether every library was found; what is undefined can only be judged then."""
        return not self.closure.missing

    @cached_property
    def torch(self) -> dict[str, tuple[LoadedObject, ...]]:
        """The libtorch libraries of the closure by bare name: `c10`, `torch_cpu`, `torch_cuda`, …."""
        found: dict[str, list[LoadedObject]] = {}
        for each in self.closure.objects:
            name = bare_name(each.elf.dynamic.soname or PurePosixPath(each.path).name)
            if name in {"c10", "torch"} or name.startswith(("c10_", "torch_")):
                found.setdefault(name, []).append(each)
        return {name: tuple(objects) for name, objects in found.items()}

    @cached_property
    def torch_dirs(self) -> tuple[str, ...]:
        """Directories that the closure's libtorch libraries lie in, real paths, in load order."""
        objects = (each for objects in self.torch.values() for each in objects)
        return tuple(dict.fromkeys(str(PurePosixPath(each.real_path).parent) for each in objects))

    @cached_property
    def torch_siblings(self) -> dict[str, ElfFile]:
        """The libraries of the closure's libtorch that are not in the closure, by file name."""
        from torchlink.binary.elf import ElfFile

        loaded = {str(each.file) for each in self.closure.objects}
        directories = {each.file.parent for objects in self.torch.values() for each in objects}
        beside = (
            path
            for directory in sorted(directories)
            for name in LINKABLE
            for path in sorted(directory.glob(f"lib{name}.so*"))
            if str(path) not in loaded
        )
        return {path.name: ElfFile.open(path) for path in beside if path.is_file()}

    def belongs_to_torch(self, each: LoadedObject) -> bool:
        """Whether an object lies in a libtorch's directory: what is odd about it is not the user's doing."""
        return str(PurePosixPath(each.real_path).parent) in self.torch_dirs


def bare_name(soname: str) -> str:
    """`libtorch_cpu.so.1.13` -> `torch_cpu`; a name that is not like a library's comes back as it is."""
    stem, dot, _ = soname.partition(".so")
    return stem.removeprefix("lib") if dot else soname
