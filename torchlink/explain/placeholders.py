"""The placeholders in the fixes of causes: their values on this machine, quoted for the language of each command."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.errors import InexpressibleError
from torchlink.explain.commands import SEPARATOR, source_of
from torchlink.explain.expressions import Expression

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torchlink.explain.facts import MachineFacts, Scene
    from torchlink.libtorch.facts import Libtorch

PLACEHOLDER = Expression(r"(?<!\$)\{([a-z][a-z0-9_]*)\}")
# What the commands of fixes call a file or tool that the log may name → the values that it is replaced by.
SAMPLES = {
    "main.cpp": ("source",),
    "module.cpp": ("source",),
    "main.o": ("inputs", "object", "source"),
    "main.nim": ("nim",),
    "model.pt": ("model",),
    "model.pt2": ("model",),
    "./app": ("program",),
    "FILE.so": ("extension",),
    "my_extension": ("module",),
    "NAME": ("name",),
    "-S .": ("source_dir",),
    "-B build": ("build_dir",),
    "-B build-new": ("build_dir",),
    "-o app": ("output",),
    "pip": ("interpreter",),
    "python3 -m pip": ("interpreter",),
}
SAMPLE = Expression(
    r"(?<![\w./\\\"'-])(?:main\.(?:cpp|nim|o)|module\.cpp|model\.pt2?|\./app|FILE\.so|NAME|my_extension|"
    r"-S \.|-B build(?:-new)?|-o app|(?:python3 -m )?pip(?= (?:install|download)))(?=$|\s|[;&|)])"
)
# A module is called as its source is; the suffix is the interpreter's.
MODULE = Expression(r"-o module(?=\$\()")
# What a command of several words may follow: `torchlink run --`, variables.
STARTED = Expression(r"(?:^|(?:^|\s)--\s|^(?:[A-Z_]+=\S+\s)+)$")
# Commands in CMake's and in Nim's own language.
CMAKE_CODE = Expression(r"\s*[a-z_]+\s*\(")
TARGET = Expression(r"(?<=target_link_libraries\()app(?= )")
NIM_CODE = Expression(r"\s*(?:\{\.|switch\(|--?(?:passC|passL|cincludes|clibdir)\b)")


def placeholder_values(facts: MachineFacts, scene: Scene, seen: Mapping[str, str]) -> dict[str, str]:
    """Return the values of the placeholders of fixes that are known.

    Args:
        facts: about this machine.
        scene: where the log is from. What its libtorch was built with is unknown if that is not on this machine.
        seen: what was found for this log: `library` (a file name), `library_dir` (where it is), `package` (which
            has it), and the values of `SAMPLES`.
    """
    found = dict(seen)
    if "library" in found:
        from torchlink.libtorch.names import bare_name

        found["link_name"] = bare_name(found["library"])
    if scene.libtorch is not None:
        found |= _of_libtorch(scene.libtorch)
        if scene.place == "elsewhere":
            for name in ("abi", "version", "release", "cuda"):
                found.pop(name, None)
    found["python"] = facts.python
    return found


def _of_libtorch(libtorch: Libtorch) -> dict[str, str]:
    version = (libtorch.version or "").partition("+")[0]
    known = {
        "root": str(libtorch.root),
        "lib": str(libtorch.library_dir),
        "abi": "" if libtorch.cxx11_abi is None else str(libtorch.cxx11_abi),
        "standard": str(libtorch.cxx_standard),
        "version": version,  # 2.13.0
        "release": ".".join(version.split(".")[:2]),  # 2.13
        "cuda": (libtorch.accelerator_version or "") if libtorch.accelerator == "cuda" else "",
    }
    if libtorch.include_dirs:
        known["include"] = str(libtorch.include_dirs[0])
    if libtorch.include_dirs[1:]:
        known["api_include"] = str(libtorch.include_dirs[1])
    for place in (libtorch.root / "share", libtorch.library_dir):
        if os.path.isfile(place / "cmake/Torch/TorchConfig.cmake"):  # noqa: PTH113 - Path.is_file hides errors
            # What CMAKE_PREFIX_PATH wants; Debian's config is found below any prefix.
            known |= {"cmake_dir": str(place / "cmake/Torch"), "prefix": str(libtorch.root)}
    return {name: value for name, value in known.items() if value}


def filled(text: str, known: Mapping[str, str]) -> str:
    """Return the text of a fix, with values as they are and `<name>` for what is unknown."""
    return PLACEHOLDER.sub(lambda found: known.get(found[1]) or _unknown(found), text)


def command(text: str, target: str, known: Mapping[str, str]) -> str:
    """Return the command of a fix with its placeholders replaced, each quoted for the language that it is in.

    A placeholder may be part of a word (`-I{include}`): the whole word is quoted then.

    Args:
        text: a command line, or code of CMake or Nim.
        target: the `for` of the fix.
        known: the values; `<name>` stands for the others.
    """
    from torchlink.emit import cmake_syntax, quoting

    if target == "cmake" and CMAKE_CODE.match(text):
        text = TARGET.sub(lambda found: known.get("target") or found[0], text)
        return PLACEHOLDER.sub(lambda found: _in_code(found, known, cmake_syntax.quote), text)
    if target == "nim" and NIM_CODE.match(text):
        return PLACEHOLDER.sub(lambda found: known.get(found[1]) or _unknown(found), text)
    quote = quoting.windows if target == "windows" else shlex.quote
    if "(" not in text.partition(" ")[0]:  # else it is code of another language
        text = MODULE.sub(lambda _: _module(known), text)
        text = SAMPLE.sub(lambda found: _named(found, known), text)
    return PLACEHOLDER.sub(lambda found: _in_shell(found, known, quote), text)


def _named(found: re.Match[str], known: Mapping[str, str]) -> str:
    """Return what the log says, quoted, in place of a sample; braces in it would be taken for placeholders."""
    sample = found[0]
    value = next((known[name] for name in SAMPLES[sample] if known.get(name)), "")
    if sample == "main.cpp" and re.search(r"-o app\b", found.string):
        value = _sources(known.get("inputs", "")) or value
    if sample == "./app" and SEPARATOR in value and not STARTED.search(found.string[: found.start()]):
        value = ""
    if not value and sample == "main.o":
        return "main.cpp"  # what was linked is unknown, and a source serves as well
    if not value or "{" in value:
        return sample
    quoted = " ".join(map(shlex.quote, value.split(SEPARATOR)))
    if sample.endswith("pip"):
        return f"{quoted} -m pip"
    if sample.startswith("-B"):
        return f"-B {shlex.quote(value.rstrip('/') + '-new') if sample.endswith('-new') else quoted}"
    return f"{sample[:2]} {quoted}" if sample.startswith("-") else quoted


def _sources(inputs: str) -> str:
    """Return the sources of a command's files; "" if that of any is unknown."""
    sources = [source_of(each) for each in inputs.split(SEPARATOR) if each]
    return SEPARATOR.join(sources) if all(sources) else ""


def _module(known: Mapping[str, str]) -> str:
    """Return the option for the name of an extension module."""
    name = Path(known.get("module", "") or known.get("source", "")).name.partition(".")[0]
    return f"-o {shlex.quote(name)}" if name and "{" not in name else "-o module"


def _unknown(found: re.Match[str]) -> str:
    return f"<{found[1]}>"


def _in_shell(found: re.Match[str], known: Mapping[str, str], quote: Callable[[str], str]) -> str:
    value = known.get(found[1])
    if not value:
        return _unknown(found)
    try:
        quoted = quote(value)
    except InexpressibleError:
        return _unknown(found)
    mark = _open_quote(found.string[: found.start()])
    return quoted if quoted == value else f"{mark}{quoted}{mark}"


def _open_quote(text: str) -> str:
    """Return the quotation mark that is open at the end of a shell's command line; none: ""."""
    mark = ""
    for char in text:
        if char == mark:
            mark = ""
        elif not mark and char in "'\"":
            mark = char
    return mark


def _in_code(found: re.Match[str], known: Mapping[str, str], quote: Callable[[str], str]) -> str:
    value = known.get(found[1])
    if not value:
        return _unknown(found)
    quoted = quote(value)
    return quoted[1:-1] if found.string[: found.start()].count('"') % 2 else quoted
