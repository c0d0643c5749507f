"""What this machine says about the lines that carry a cause: sentences, values for fixes, and checks by name.

The checks, for `check = "…"` in a cause's file:

- `defined`: libtorch defines an undefined symbol, exactly as it is asked for.
- `other-abi`: libtorch defines it with another std::string.
- `other-signature`: libtorch has the function only with other parameters.
- `absent`: no library of libtorch has anything of that name.
- `python-library`: libtorch_python defines it.
- `library-here`: a missing library is one of libtorch's, or in a package next to it.
- `cpu-build`: libtorch is a CPU build, and the log is of this machine.
- `header-here`, `header-absent`: the log is of this machine, and libtorch has the missing header, or does not.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import ResourcesError, TorchlinkError
from torchlink.explain.commands import SEPARATOR, source_of_module
from torchlink.explain.expressions import Expression
from torchlink.explain.headers import CAUSES as HEADER_CAUSES
from torchlink.explain.headers import Headers, look_up_headers
from torchlink.explain.lookup import (
    OF_CUDA,
    LibraryFact,
    SymbolFact,
    Symbols,
    leads_to,
    look_up_library,
    missing_libraries,
    other_string,
    undefined_symbols,
)
from torchlink.explain.symbols import string_of
from torchlink.libtorch.names import PYTHON_LIBRARY, bare_name
from torchlink.shown import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torchlink.explain.facts import MachineFacts, Scene
    from torchlink.libtorch.facts import Libtorch
    from torchlink.model.kind import ModelFile

MODEL_SUFFIXES = r"pt|pth|pt2|ptl|pte|jit|torchscript|ts|onnx|safetensors|bin|pkl|tar|zip"
MODEL = Expression(
    r"(?:file path: |['\"`\u2018\s(=:]|^)"
    rf"((?:[^\s'\"`\u2019:=(),]*/)?[^\s'\"`\u2019:=(),/]+\.(?:{MODEL_SUFFIXES}))(?![\w.])"
)
# A function of a symbol, or a name that a compiler does not know.
UNKNOWN_NAME = Expression(
    r"^[\w: ]*?(\w+)(?:\[[\w:]+\])?\(|\W(\w+)\W (?:was not declared|is not a member|has not been declared)|"
    r"\bnamed \W(\w+)\W"
)
# Files of the user's that a line names: what is compiled, what is started, what Python imports.
FILES = {
    "source": Expression(r"(?:^|[\s'\"`(])([^\s'\"`(:]+\.(?:cpp|cc|cxx|cu))(?=[:(\s'\"`]|$)"),
    "object": Expression(r"(?:^|[\s'\"`(])([^\s'\"`(:]+\.o)(?=[:(\s'\"`]|$)"),
    "nim": Expression(r"(?:^|[\s'\"`])([^\s'\"`(]+\.nim)(?=[:(\s'\"`]|$)"),
    "program": Expression(
        r"(?:^|\s)(\.?/[^\s:]+): (?:error while loading|symbol lookup error|[^:]+: version `)"
    ),
    "extension": Expression(r"(?:ImportError|OSError): (/[^\s:]+\.so): "),
}
TARGET = Expression(r"[Tt]arget \W([\w.+-]+)\W (?:links to|contains)")  # of a CMake project
NOT_OWN = Expression(r"/torch/include/|nimcache|/\.cache/nim/|@m[^/]*\.nim\.\w+$|^/tmp/cc\w+\.o$")
# Kinds of file (model/kind.py) that are damaged or in a form that no loader reads; the others are models of some kind.
DAMAGED = frozenset(
    {"truncated-zip", "lfs-pointer", "web-page", "zeros", "empty", "tar", "text", "compressed"}
)
SYMBOL_CAUSES = {
    "abi-mismatch-link": "link",
    "abi-mismatch-load": "load",
    "version-mismatch": "",
    "torch-libs-not-linked": "link",
    "torch-python-not-linked": "",
}
# Causes of `cannot find -l…`, by what is known about the library (`LibraryFact.kind`).
LINK_CAUSES = {"here": "lib-not-found-link", "removed": "lib-removed", "no-accelerator": "libtorch-cpu-only"}
ABI_CAUSES = frozenset({"abi-mismatch-link", "abi-mismatch-load"})
MODEL_CAUSES = frozenset({"model-not-torchscript", "model-corrupt-or-legacy", "model-file-missing"})
NONE = (
    "No libtorch was found on this machine: `pip install torch` installs one, or unpack a libtorch zip; "
    "`torchlink find --all` shows where it was looked for."
)
NAMED_AT_MOST = 4
LONGEST_SYMBOL = 120  # characters


class Look(NamedTuple):
    """What the lines of one cause say about this machine; everything else is read when it is asked for."""

    texts: tuple[str, ...]
    symbols: tuple[SymbolFact, ...]
    libraries: tuple[LibraryFact, ...]
    models: tuple[ModelFile, ...]
    headers: Headers


class Examiner:
    """Looks at the lines of causes, and keeps the libraries open meanwhile.

    Args:
        facts: about this machine.
        scene: where the log is from.
        about: more lines of the log; they may name a model that the lines of a cause do not.
    """

    def __init__(self, facts: MachineFacts, scene: Scene, about: Sequence[str] = ()) -> None:
        self.facts = facts
        self.scene = scene
        self._about = tuple(about)
        self._looks: dict[tuple[str, ...], Look] = {}

    @property
    def libtorch(self) -> Libtorch | None:
        """The libtorch that the log is about."""
        return self.scene.libtorch

    @cached_property
    def _symbols(self) -> Symbols | None:
        return Symbols(self.libtorch) if self.libtorch else None

    @cached_property
    def _models(self) -> tuple[ModelFile, ...]:
        return tuple(models_in(self._about))

    def look(self, texts: Sequence[str]) -> Look:
        """Look at lines."""
        key = tuple(texts)
        if key not in self._looks:
            # The libraries of another machine's libtorch may have other symbols than those here.
            tables = None if self.scene.place == "elsewhere" else self._symbols
            symbols = undefined_symbols(key) if tables else []
            names = list(dict.fromkeys(missing_libraries(key)))
            self._looks[key] = Look(
                key,
                tuple(tables.look_up(symbols)) if tables and symbols else (),
                tuple(look_up_library(name, self.libtorch) for name in names) if self.libtorch else (),
                tuple(models_in(key)),
                look_up_headers(key, tables.libtorch) if tables else Headers((), ()),
            )
        return self._looks[key]

    def holds(self, check: str, texts: Sequence[str]) -> bool | None:
        """Whether a check holds; None: it cannot be told here, or there is no such check."""
        look, libtorch = self.look(texts), self.libtorch
        kinds = {fact.kind for fact in look.symbols}
        if check in {"defined", "other-abi", "other-signature", "absent"}:
            return check in kinds if kinds else None
        if check == "python-library":
            return _in_python(look.symbols) if kinds else None
        if check == "library-here":
            return (
                any(fact.kind in {"here", "companion"} for fact in look.libraries) if look.libraries else None
            )
        if check == "cpu-build":
            return libtorch.accelerator == "cpu" if libtorch and self.scene.place == "here" else None
        if check in {"header-here", "header-absent"} and self.scene.place == "here":
            return bool(look.headers.absent if check == "header-absent" else look.headers.here)
        return None

    def settled(self, cause: str, certainty: str, texts: Sequence[str]) -> tuple[str, str]:
        """Return the cause and the certainty that this machine's files show in place of what the text says.

        Only where the log is of this machine: elsewhere, and where nothing shows it, the text decides.
        """
        if cause in SYMBOL_CAUSES:
            return self._by_symbols(cause, certainty, texts)
        if cause in MODEL_CAUSES:
            return self._by_model(cause, certainty, texts)
        if cause in HEADER_CAUSES:
            return self._by_header(cause, certainty, texts)
        if cause in {"lib-not-found-link", "lib-removed"}:
            return self._by_library(cause, certainty, texts)
        here = self.scene.place == "here" and certainty == "likely"
        if here and cause == "torch-lib-not-found-runtime" and self.holds("library-here", texts):
            return cause, "certain"
        if (
            self.scene.place == "here"
            and cause in {"libtorch-cpu-only", "torch-cuda-dropped"}
            and self.libtorch
        ):
            accelerator = self.libtorch.accelerator
            if accelerator == "cpu":
                return "libtorch-cpu-only", "certain"
            if accelerator == "cuda" and certainty == "likely":
                return "torch-cuda-dropped", "likely"
        return cause, certainty

    def _by_symbols(self, cause: str, certainty: str, texts: Sequence[str]) -> tuple[str, str]:
        facts = self.look(texts).symbols
        if not facts or self.scene.place != "here":
            return cause, certainty
        link = SYMBOL_CAUSES[cause] == "link" or any("undefined reference" in text for text in texts)
        kinds = {fact.kind for fact in facts}
        if "other-abi" in kinds:
            shown = "abi-mismatch-link" if link else "abi-mismatch-load"
        elif kinds == {"defined"} and _in_python(facts):
            shown = "torch-python-not-linked"
        elif kinds == {"defined"}:
            if not link and _is_not_linked(facts, texts):
                return "torch-libs-not-linked", "certain"
            # A loader that lacks a symbol which libtorch has may have loaded another libtorch.
            shown = "torch-libs-not-linked" if link else cause
        elif "other-signature" in kinds:
            # A string of the other ABI is evidence enough, whatever else has changed.
            other = "old" if self.libtorch and self.libtorch.cxx11_abi else "new"
            if cause in ABI_CAUSES and other in {string_of(fact.symbol) for fact in facts}:
                return cause, certainty
            shown = "version-mismatch"
        elif kinds == {"absent"} and certainty == "likely":
            # Nothing that is linked helps. Somebody's own code may be in these namespaces, too.
            of_cuda = any(OF_CUDA.search(fact.symbol.text) for fact in facts)
            on_cpu = of_cuda and self.libtorch is not None and self.libtorch.accelerator == "cpu"
            return ("libtorch-cpu-only" if on_cpu else "version-mismatch"), "likely"
        else:
            return cause, certainty
        if shown == cause:
            return cause, "certain" if "absent" not in kinds else certainty
        # The log may be of another libtorch than the one that was looked into, unless it names it.
        return (cause, certainty) if certainty == "certain" and not self.scene.named else (shown, "certain")

    def _by_header(self, cause: str, certainty: str, texts: Sequence[str]) -> tuple[str, str]:
        headers = self.look(texts).headers
        if self.scene.place != "here":
            # Another libtorch may have the header.
            return cause, "likely" if headers.absent and self.scene.place == "unknown" else certainty
        if headers.absent:
            return "api-removed", "certain"
        if headers.here and cause == "api-removed":
            return "headers-not-found", "certain"
        return cause, certainty

    def _by_library(self, cause: str, certainty: str, texts: Sequence[str]) -> tuple[str, str]:
        kinds = {fact.kind for fact in self.look(texts).libraries}
        if self.scene.place != "here" or len(kinds) != 1:
            return cause, certainty
        shown = LINK_CAUSES.get(kinds.pop(), cause)
        return shown, "certain" if shown in LINK_CAUSES.values() else certainty

    def _by_model(self, cause: str, certainty: str, texts: Sequence[str]) -> tuple[str, str]:
        models = self.look(texts).models or self._models
        if len(models) != 1 or cause == "model-file-missing":
            return cause, certainty
        kind = models[0].kind
        if kind in {"torchscript", "unknown", "zip", "directory", "special"}:
            return cause, certainty
        return ("model-corrupt-or-legacy" if kind in DAMAGED else "model-not-torchscript"), "certain"

    def seen(self, cause: str, texts: Sequence[str]) -> dict[str, str]:
        """Return values for the fixes of a cause that come from its lines."""
        look = self.look(texts)
        found: dict[str, str] = {}
        defined = [fact.library for fact in look.symbols if fact.kind == "defined" and fact.library]
        if defined:
            found["library"] = max(defined, key=lambda name: (defined.count(name), name))
        named = UNKNOWN_NAME.search(look.symbols[0].symbol.text if look.symbols else next(iter(texts), ""))
        if look.headers.absent:
            found["name"] = Path(look.headers.absent[0]).name
        elif named:
            found["name"] = named[named.lastindex or 0]
        for fact in look.libraries:
            found["library"] = fact.name
            if fact.directory:
                found["library_dir"] = fact.directory
            if fact.package:
                found["package"] = fact.package
            if fact.directory or fact.package:
                break
        models = look.models or self._models
        if models and cause.startswith(("model-", "aoti-")):
            found["model"] = str(models[0].path)
        found |= _files(texts)
        if "source" not in found:
            # `In file included from main.cpp:1:`, say, is a line of its own.
            sources = {each[1] for text in self._about for each in FILES["source"].finditer(text)}
            own = list(filter(_is_own, sources))
            found |= {"source": own[0]} if len(own) == 1 else {}
        return found

    def notes(self, cause: str, texts: Sequence[str], *, replaced: bool = False) -> tuple[str, ...]:
        """Return sentences on what this machine says about a cause; `replaced`: its fixes show values of it."""
        found = list(dict.fromkeys(self._notes(cause, self.look(texts))))
        if replaced and self.scene.place == "elsewhere" and self.libtorch:
            found.append(
                f"The log is of another machine: the fixes show the paths of {name_of(self.libtorch)}."
            )
        return tuple(found)

    def _notes(self, cause: str, look: Look) -> Iterator[str]:
        libtorch = self.libtorch
        if cause.startswith(("model-", "aoti-")):
            yield from map(_on_model, look.models or self._models)
        if libtorch is None:
            if self.scene.place != "elsewhere" and not cause.startswith(("model-", "aoti-", "input-")):
                yield NONE
            return
        name = name_of(libtorch)
        yield from _on_symbols(look.symbols, libtorch, name)
        if cause in ABI_CAUSES and look.symbols and all(fact.kind == "defined" for fact in look.symbols):
            yield f"If the log is about {name}, the ABI is not the cause: that library is not linked or not loaded."
        yield from _on_headers(cause, look.headers, name)
        libraries = look.libraries
        if self.scene.place == "elsewhere":  # what this libtorch lacks says nothing about the log's
            libraries = tuple(fact for fact in libraries if fact.kind in {"here", "companion", "system"})
        for fact in libraries[:NAMED_AT_MOST]:
            yield from _on_library(fact, libtorch, name)
        about = _ABOUT.get(cause)
        if about and self.scene.place != "elsewhere":
            yield from about(libtorch, name, self.facts)


def name_of(libtorch: Libtorch) -> str:
    """Return what sentences call a libtorch: `torch 2.13.0+cpu (/opt/libtorch)`."""
    return f"torch {libtorch.version or 'of unknown version'} ({libtorch.root})"


def _in_python(facts: Sequence[SymbolFact]) -> bool:
    """Whether libtorch_python defines symbols, and no other library does."""
    libraries = {bare_name(fact.library) for fact in facts if fact.kind == "defined" and fact.library}
    return libraries == {PYTHON_LIBRARY}


def _files(texts: Sequence[str]) -> dict[str, str]:
    """Return the user's files that lines name, by what they are."""
    found: dict[str, str] = {}
    for name, pattern in FILES.items():
        files = dict.fromkeys(each[1] for text in texts for each in pattern.finditer(text))
        own = [file for file in files if _is_own(file)]
        if own:
            found[name] = own[0] if name != "object" else SEPARATOR.join(own)
    found["target"] = next((each[1] for text in texts for each in TARGET.finditer(text)), "")
    extensions = [each[1] for text in texts for each in FILES["extension"].finditer(text)]
    if extensions:
        found["module"] = Path(extensions[0]).name.partition(".")[0]
        found.setdefault("source", next(filter(None, map(source_of_module, extensions)), ""))
    return {name: value for name, value in found.items() if value}


def _is_own(file: str) -> bool:
    """Whether a file is here, is none of libtorch's headers, and was not generated by Nim."""
    return os.path.isfile(file) and not NOT_OWN.search(file)  # noqa: PTH113 - Path.is_file hides errors


def _plain(fact: SymbolFact) -> str:
    exact = fact.namesake is not None and fact.namesake.exact
    return shortened(fact.namesake.plain if fact.namesake and exact else fact.symbol.text, LONGEST_SYMBOL)


def _on_symbols(facts: Sequence[SymbolFact], libtorch: Libtorch, name: str) -> Iterator[str]:
    by_kind: dict[str, list[SymbolFact]] = {}
    for fact in facts:
        by_kind.setdefault(fact.kind, []).append(fact)
    for fact in by_kind.get("other-abi", ())[:1]:
        theirs = other_string(fact)
        used = (
            "the std::string of libc++"
            if theirs == "libc++"
            else f"the {theirs} std::string (C++ ABI {int(theirs == 'new')})"
        )
        abi = "" if libtorch.cxx11_abi is None else f" with C++ ABI {libtorch.cxx11_abi}"
        plain = shortened(fact.namesake.plain if fact.namesake else fact.symbol.text, LONGEST_SYMBOL)
        yield f"{fact.library} of {name} defines it{abi}: {plain}. The object asks for it with {used}."
    defined = by_kind.get("defined", [])
    libraries = dict.fromkeys(fact.library for fact in defined)
    for library in list(libraries)[:NAMED_AT_MOST]:
        of_it = [fact for fact in defined if fact.library == library]
        if len(of_it) == 1:
            yield f"{library} of {name} defines {_plain(of_it[0])}, exactly as it is asked for."
        else:
            yield f"{library} of {name} defines {len(of_it)} of the undefined symbols, {_plain(of_it[0])} among them."
    for fact in by_kind.get("other-signature", ())[:1]:
        other = fact.namesake.plain if fact.namesake else ""
        yield (
            f"{name} has no {_plain(fact)}: under that name, {fact.library} has only other functions, such as "
            f"{shortened(other, LONGEST_SYMBOL)}."
        )
    absent = by_kind.get("absent", [])
    of_cuda = [fact for fact in absent if OF_CUDA.search(fact.symbol.text)]
    if of_cuda and libtorch.accelerator == "cpu":
        yield f"{name} is a CPU build: {_plain(of_cuda[0])} is only in CUDA builds."
    elif absent:
        more = f" (and {len(absent) - 1} more)" if absent[1:] else ""
        yield f"No library of {name} has a symbol of the name of {_plain(absent[0])}{more}."


def _on_headers(cause: str, headers: Headers, name: str) -> Iterator[str]:
    if cause in HEADER_CAUSES:
        for header in headers.absent[:NAMED_AT_MOST]:
            helpless = "" if cause == "api-removed" else ": with it, no include directory helps"
            yield f"{name} has no {header}{helpless}."
        for header in headers.here[:1]:
            yield f"{name} has {header}."


def _on_library(fact: LibraryFact, libtorch: Libtorch, name: str) -> Iterator[str]:
    if fact.kind in {"here", "companion"}:
        yield f"{fact.name} of {name} is in {fact.directory}."
    elif fact.kind == "missing":
        from torchlink.remedies.remedy import remedy_for

        missing = [each for each in libtorch.missing_libraries if each.name == fact.name]
        remedy = remedy_for(libtorch, missing).text
        yield f"{name} needs {fact.name}, and it is not installed" + (f": {remedy}." if remedy else ".")
    elif fact.kind == "other-version":
        yield f"{name} has {fact.instead}, not {fact.name}: the program was linked with another libtorch."
    elif fact.kind == "removed":
        yield f"{name} has no {fact.name}; {fact.instead} was the last version with it."
    elif fact.kind == "no-accelerator":
        yield f"{name} is a CPU build: it neither has nor needs {fact.name}."
    elif fact.kind == "cuda-version":
        yield f"{name} is built for CUDA {libtorch.accelerator_version} and needs {fact.instead}, not {fact.name}."
    elif fact.kind == "system":
        yield f"On Debian and Ubuntu, `apt install {fact.package}` installs {fact.name}."


def _on_model(model: ModelFile) -> str:
    from torchlink.model.other_files import remedy

    advice = remedy(model.kind, str(model.path))
    return f"{model.path} is {model.detail}.{f' {advice}' if advice else ''}"


def models_in(texts: Sequence[str]) -> Iterator[ModelFile]:
    """Yield the model files that lines name and that are here."""
    names = dict.fromkeys(found[1] for text in texts for found in MODEL.finditer(text))
    for name in list(names)[:NAMED_AT_MOST]:
        if os.path.isfile(name):  # noqa: PTH113 - Path.is_file hides errors
            from torchlink.model.kind import identify

            try:
                yield identify(Path(name))
            except ResourcesError:
                raise
            except TorchlinkError:
                continue


def _standard(libtorch: Libtorch, name: str, facts: MachineFacts) -> Iterator[str]:
    from torchlink.toolchain.compiler import first_version

    required, preferred = libtorch.cxx_standard_required, libtorch.cxx_standard
    asked = f", and ask for C++{preferred}" if preferred != required else ""
    yield f"The headers of {name} need C++{required}{asked} ({libtorch.cxx_standard_from})."
    compiler = facts.compiler
    if compiler and compiler.standards and max(compiler.standards) < required:
        since = first_version(compiler.kind, required)
        newer = f"; {compiler.kind} {since} is the first that does" if since else ""
        yield f"{compiler.name} does not implement C++{required}{newer}."


def _build(libtorch: Libtorch, name: str, _: MachineFacts) -> Iterator[str]:
    kind = {"cpu": "a CPU build", "cuda": "a CUDA build", "rocm": "a ROCm build", "xpu": "an XPU build"}
    version = f" for version {libtorch.accelerator_version}" if libtorch.accelerator_version else ""
    yield f"{name} is {kind.get(libtorch.accelerator, libtorch.accelerator)}{version}."


def _dropped(libtorch: Libtorch, name: str, _: MachineFacts) -> Iterator[str]:
    if libtorch.accelerator == "cpu":
        yield f"{name} is a CPU build: if the log is about it, that is the cause (libtorch-cpu-only)."
    else:
        yield from _build(libtorch, name, _)


def _cmake(_: Libtorch, __: str, facts: MachineFacts) -> Iterator[str]:
    if facts.cmake and facts.cmake.version:
        yield f"{facts.cmake.path} is CMake {'.'.join(map(str, facts.cmake.version))}."


def _config(libtorch: Libtorch, name: str, _: MachineFacts) -> Iterator[str]:
    for place in (libtorch.root / "share", libtorch.library_dir):
        if os.path.isfile(place / "cmake/Torch/TorchConfig.cmake"):  # noqa: PTH113 - Path.is_file hides errors
            yield f"TorchConfig.cmake of {name} is in {place / 'cmake/Torch'}."
            return
    yield f"{name} has no TorchConfig.cmake: `torchlink cmake prefix` makes one."


def _is_not_linked(facts: Sequence[SymbolFact], texts: Sequence[str]) -> bool:
    """Whether the extension that lacks symbols of libtorch needs no library that has them."""
    files = {each[1] for text in texts for each in FILES["extension"].finditer(text)}
    return any(leads_to(file, fact.library or "") is False for file in files for fact in facts)


_ABOUT: dict[str, Callable[[Libtorch, str, MachineFacts], Iterator[str]]] = {
    "std-too-low": _standard,
    "compiler-too-old": _standard,
    "libtorch-cpu-only": _build,
    "torch-cuda-dropped": _dropped,
    "cmake-too-old": _cmake,
    "cmake-too-new": _cmake,
    "cmake-torch-not-found": _config,
    "cmake-torch-version-rejected": _config,
}
