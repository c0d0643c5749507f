"""Where defects are built on the spot: small programs and libraries, a fake libtorch, and what lint reports."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchlink.lint.checking import check_binary
from torchlink.lint.context import LintOptions
from torchlink.lint.targets import parse_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.lint.finding import Finding

NEW_STRING = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
C10 = "_ZN3c1010TensorImpl17release_resourcesEv _ZN3c106detail14torchCheckFailEPKcS2_jRK{string}"
CPU = (
    "_ZN2at13globalContextEv _ZN5torch4cuda12is_availableEv _ZN2at6detail12getCUDAHooksEv _ZN2at6detail11getXPUHooksEv"
    " _ZN5torch7Library4_defEv _ZN5torch3jit4loadERK{string} {show_config}"
)
CUDA = "_ZN2at4cuda9warp_sizeEv"
MAIN = "int main(void) { return 0; }\n"


def functions(names: str) -> str:
    """C source of empty functions with these (mangled) names."""
    return "".join(f"void {name}(void) {{}}\n" for name in names.split())


def calls(*names: str, main: bool = True) -> str:
    """C source that calls functions with these (mangled) names."""
    declared = "".join(f"void {name}(void);\n" for name in names)
    called = " ".join(f"{name}();" for name in names)
    head = "int main(void)" if main else "int use_all(void)"
    return f"{declared}{head} {{ {called} return 0; }}\n"


@dataclass
class Builder:
    """A directory to build in."""

    directory: Path

    def path(self, file: str) -> Path:
        """A file below the directory; its parents are made."""
        path = self.directory / file
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def build(
        self, file: str, source: str, *words: str | Path, language: str = "c", compiler: str = "gcc"
    ) -> Path:
        """Compile and link one source; `words` stand behind it."""
        path = self.path(file)
        command = [compiler, "-x", language, "-", "-x", "none", "-o", str(path), *map(str, words)]
        done = subprocess.run(
            command, input=source, text=True, capture_output=True, check=False, cwd=self.directory
        )
        assert done.returncode == 0, done.stderr
        return path

    def library(
        self, file: str, source: str = "", *words: str | Path, soname: str | None = "", **found_via: Any
    ) -> Path:
        """A shared library, linked with what is in `words` and nothing else.

        Its SONAME is its file's name, unless another is given or (None) none at all.
        """
        name = Path(file).name
        default = f"int in_{''.join(filter(str.isalnum, name))}(void) {{ return 0; }}\n"
        named = () if soname is None else (f"-Wl,-soname,{soname or name}",)
        flags = ("-shared", "-fPIC", "-nostdlib", "-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined", *named)
        return self.build(file, source or default, *flags, *words, **found_via)

    def program(self, file: str, source: str, *words: str | Path, **found_via: Any) -> Path:
        """A program that keeps every library of `words` as NEEDED, used or not."""
        return self.build(
            file, source, "-Wl,--no-as-needed", "-Wl,--unresolved-symbols=ignore-all", *words, **found_via
        )

    def torch(
        self, directory: str = "torch/lib", *, abi: int = 1, cuda: bool = False, extra: str = ""
    ) -> Path:
        """A fake libtorch: real libraries with the functions that identify one; returns its lib directory."""
        lib = self.directory / directory
        own = "-Wl,-rpath,$ORIGIN"
        names = {
            "string": NEW_STRING if abi else "Ss",
            "show_config": f"_ZN2at11show_config{'B5cxx11' if abi else ''}Ev",
        }
        c10 = self.library(f"{directory}/libc10.so", functions(C10.format(**names)))
        source = functions(f"{CPU.format(**names)} {extra}")
        self.library(f"{directory}/libtorch_cpu.so", source, c10, own)
        if cuda:
            self.library(f"{directory}/libtorch_cuda.so", functions(CUDA), lib / "libtorch_cpu.so", c10, own)
        return lib


def findings(
    path: Path, *, root: Path | None = None, target: str | None = None, **wanted: Any
) -> list[Finding]:
    """All that lint says of a file."""
    floors = parse_target(target) if target else {}
    return list(check_binary(path, LintOptions(floors=floors, target=target, **wanted), root=root).findings)


def said(path: Path, rule: str, **found_via: Any) -> list[Finding]:
    """What one rule says of a file."""
    return [finding for finding in findings(path, **found_via) if finding.rule == rule]


def subjects(found: Sequence[Finding]) -> list[str]:
    """What findings are about."""
    return [finding.subject for finding in found]


def rules(path: Path, **found_via: Any) -> set[str]:
    """The rules that speak, notes left out."""
    return {finding.rule for finding in findings(path, **found_via) if finding.severity.value != "note"}


def has(*programs: str) -> bool:
    """Whether all of these are on PATH."""
    return all(shutil.which(program) for program in programs)
