"""The facts of a libtorch, and the result of a search for one: as text, as one value for scripts, or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.errors import UsageError
from torchlink.shown import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torchlink.errors import TorchlinkError
    from torchlink.libtorch.facts import Candidate, Libtorch, Search


def libtorch_to_json(libtorch: Libtorch) -> dict[str, object]:
    """Return the `libtorch` object of every JSON report: plain values, paths as strings."""
    from torchlink.libtorch.floor import shortfall

    short = shortfall(libtorch)
    return {
        "root": str(libtorch.root),
        "version": libtorch.version,
        "version_from": libtorch.version_from,
        "found_by": libtorch.found_by,
        "layout": libtorch.layout,
        "packed": libtorch.packed,
        "platform": libtorch.platform,
        "arch": libtorch.arch,
        "cxx11_abi": libtorch.cxx11_abi,
        "cxx11_abi_from": libtorch.cxx11_abi_from,
        "cxx_standard": libtorch.cxx_standard,
        "cxx_standard_required": libtorch.cxx_standard_required,
        "cxx_standard_from": libtorch.cxx_standard_from,
        "include_dirs": [str(path) for path in libtorch.include_dirs],
        "library_dir": str(libtorch.library_dir),
        "libraries": list(libtorch.libraries),
        "accelerator": libtorch.accelerator,
        "accelerator_version": libtorch.accelerator_version,
        "search_kind": libtorch.search_kind,
        "search_path": list(libtorch.search_path),
        "companion_dirs": [str(companion.path) for companion in libtorch.companion_dirs],
        "layout_intact": libtorch.layout_intact,
        "missing_libraries": [
            {"name": missing.name, "needed_by": missing.needed_by, "package": missing.package}
            for missing in libtorch.missing_libraries
        ],
        "python": None if libtorch.python is None else str(libtorch.python),
        "conflicts": list(libtorch.conflicts),
        "needs_newer_system": None if short is None else short.message,
    }


PLATFORMS = {"linux": "Linux", "macos": "macOS", "windows": "Windows"}
ACCELERATORS = {"cpu": "CPU only", "cuda": "CUDA", "rocm": "ROCm", "xpu": "XPU"}
LAYOUTS = {
    "pip": "an installed wheel",
    "zip": "an unpacked zip",
    "conda": "a conda prefix",
    "system": "a system prefix",
    "source": "a source build",
    "wheel": "a wheel, not extracted",
    "unknown": "headers and libraries, origin unknown",
}
MARGIN = 15  # columns of the label


def search_to_json(search: Search, error: TorchlinkError | None = None) -> dict[str, object]:
    """Return the object of `torchlink find --json`.

    A usable candidate contains its own `libtorch` as well, because several `--libtorch` ask for each of them.
    If nothing is usable, `libtorch` is null and the error is added.
    """
    report: dict[str, object] = {
        "schema": 1,
        "libtorch": None if search.chosen is None else libtorch_to_json(search.chosen),
        "candidates": [candidate_to_json(candidate) for candidate in search.candidates],
    }
    if error is not None:
        report["error"] = error.to_json()
    return report


def candidate_to_json(candidate: Candidate) -> dict[str, object]:
    """Return a candidate; `rejected` is null for a usable one."""
    return {
        "path": str(candidate.path),
        "found_by": candidate.found_by,
        "rejected": candidate.rejected,
        "libtorch": None if candidate.libtorch is None else libtorch_to_json(candidate.libtorch),
    }


def search_to_text(search: Search, *, everything: bool = False, verbose: bool = False) -> str:
    """Return the facts of the chosen libtorch, one per line; with `everything` followed by every candidate."""
    blocks = []
    if search.chosen is not None:
        blocks.append("\n".join(describe(search.chosen, verbose=verbose)))
    if everything:
        blocks.append("\n".join(("Candidates, in the order of the search:", *list_candidates(search))))
    return "\n\n".join(blocks)


def describe(libtorch: Libtorch, *, verbose: bool = False) -> list[str]:
    """Return one line for each fact, several for a list."""
    rows: list[tuple[str, Iterable[str]]] = [
        ("root", [str(libtorch.root)]),
        ("found by", [libtorch.found_by]),
        ("version", [f"{libtorch.version or 'unknown'}{origin(libtorch.version_from)}"]),
        ("layout", [libtorch.layout if libtorch.layout not in LAYOUTS else layout_text(libtorch)]),
        ("platform", [f"{PLATFORMS[libtorch.platform]} {libtorch.arch}"]),
        ("C++ ABI", [abi_text(libtorch, verbose=verbose)]),
        ("C++ standard", [standard_text(libtorch)]),
        (
            "accelerator",
            [" ".join(filter(None, (ACCELERATORS[libtorch.accelerator], libtorch.accelerator_version)))],
        ),
        ("include dirs", [str(path) for path in libtorch.include_dirs]),
        ("library dir", [str(libtorch.library_dir)]),
        ("libraries", wrap(libtorch.libraries)),
        ("search path", search_path_lines(libtorch)),
        ("companion dirs", companion_lines(libtorch)),
        ("missing", missing_lines(libtorch)),
        ("interpreter", [str(libtorch.python)] if libtorch.python else []),
        ("contradictions", libtorch.conflicts),
    ]
    return [line for label, lines in rows for line in labelled(label, lines)]


def labelled(label: str, lines: Iterable[str]) -> Iterator[str]:
    """Put a label before the first line and a margin before the others; without lines there is no label."""
    for number, line in enumerate(lines):
        yield f"{label if number == 0 else '':<{MARGIN}} {visible(line)}"


def origin(source: str | None) -> str:
    """Return the source of a fact in brackets."""
    return f"  ({source})" if source else ""


def layout_text(libtorch: Libtorch) -> str:
    """Describe the kind of installation."""
    if libtorch.packed and libtorch.layout == "zip":
        return "a zip, not extracted"
    if not libtorch.include_dirs:
        return "libraries without headers"
    return LAYOUTS[libtorch.layout]


def abi_text(libtorch: Libtorch, *, verbose: bool = False) -> str:
    """Return the C++ ABI and the library that it was read from; with `verbose` also the (mangled) symbol."""
    if libtorch.cxx11_abi is not None:
        source = libtorch.cxx11_abi_from
        if source and not verbose:
            source = source.partition(" defines _Z")[0]
        return f"{libtorch.cxx11_abi}{origin(source)}"
    if libtorch.platform == "linux" and any("ABI" in conflict for conflict in libtorch.conflicts):
        return "unknown"
    return "not applicable (no libstdc++)"


def standard_text(libtorch: Libtorch) -> str:
    """Return the C++ standard that is required and the one that is preferred."""
    text = f"C++{libtorch.cxx_standard_required}"
    if libtorch.cxx_standard != libtorch.cxx_standard_required:
        text = f"needs {text}, prefers C++{libtorch.cxx_standard}"
    return f"{text}{origin(libtorch.cxx_standard_from)}"


def search_path_lines(libtorch: Libtorch) -> list[str]:
    """Return the search path of libtorch's libraries, one entry per line."""
    if libtorch.search_kind is None:
        return []
    first, *rest = libtorch.search_path or ("empty",)
    return [
        f"{libtorch.search_kind.upper()} {first}",
        *(f"{'':{len(libtorch.search_kind)}} {entry}" for entry in rest),
    ]


def companion_lines(libtorch: Libtorch) -> list[str]:
    """Return each companion dir and whether libtorch's own search path contains it."""
    where = {
        True: "in libtorch's own search path",
        False: "NOT in libtorch's own search path",
    }
    return [f"{companion.path}  ({where[companion.in_place]})" for companion in libtorch.companion_dirs]


def missing_lines(libtorch: Libtorch) -> list[str]:
    """Return each library that is found nowhere, then the command that installs them."""
    if not libtorch.missing_libraries:
        return []
    from torchlink.remedies.remedy import remedy_for

    remedy = remedy_for(libtorch, libtorch.missing_libraries).text
    return [
        *(f"{missing.name}, needed by {missing.needed_by}" for missing in libtorch.missing_libraries),
        *([f"to install what is missing: {remedy}"] if remedy else ()),
    ]


def wrap(words: Iterable[str], width: int = 84) -> list[str]:
    """Join words to lines of at most `width` columns."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def list_candidates(search: Search) -> Iterator[str]:
    """Describe each candidate: used, usable, or rejected and why."""
    for number, candidate in enumerate(search.candidates, start=1):
        yield f"{number:>3}. {visible(str(candidate.path))}  ({visible(candidate.found_by)})"
        found = candidate.libtorch
        if found is None:
            yield f"     rejected: {visible(candidate.rejected or '')}"
            continue
        what = " ".join(
            filter(
                None,
                (
                    found.version or "unknown version",
                    found.arch,
                    ACCELERATORS[found.accelerator],
                    found.accelerator_version,
                    None if found.cxx11_abi is None else f"ABI {found.cxx11_abi}",
                ),
            )
        )
        yield f"     {'used' if found is search.chosen else 'usable'}: {visible(what)}"


def field_values(libtorch: Libtorch, field: str) -> list[str]:
    """Return the value of one field of the JSON object, one string per element of a list; "" for null.

    Raises:
        UsageError: there is no such field; the hint lists the fields.
    """
    facts = libtorch_to_json(libtorch)
    if field not in facts:
        raise UsageError(f"--print {field!r}: no such field.", hint=f"The fields are: {', '.join(facts)}.")
    value = facts[field]
    if value is None:
        return [""]
    if field == "missing_libraries":
        return [missing.name for missing in libtorch.missing_libraries]
    if isinstance(value, list):
        return [str(element) for element in value]
    return [str(value).lower() if isinstance(value, bool) else str(value)]
