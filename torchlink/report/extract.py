"""The report of `torchlink extract`, as text or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.remedies.pip import download_command
from torchlink.report.find import ACCELERATORS, PLATFORMS, abi_text, labelled, libtorch_to_json, wrap
from torchlink.report.plain import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torchlink.extract.extraction import ExtractReport


def to_json(report: ExtractReport) -> dict[str, object]:
    """Return the object of `torchlink extract --json`."""
    return {
        "schema": 1,
        "directory": str(report.libtorch.root),
        "wheel": str(report.wheel),
        "libtorch": libtorch_to_json(report.libtorch),
        "files": report.files,
        "bytes": report.size,
        "left_out": list(report.left_out),
        "companions": [
            {"wheel": str(each.wheel), "libraries": list(each.libraries)} for each in report.companions
        ],
        "unused": [str(wheel) for wheel in report.unused],
        "patched": list(report.patched),
    }


def to_text(report: ExtractReport) -> str:
    """Return what was extracted, what was left out, and what is still missing."""
    return "\n".join(line for label, lines in _rows(report) for line in labelled(label, lines)) + "\n"


def _rows(report: ExtractReport) -> Iterator[tuple[str, Iterable[str]]]:
    libtorch = report.libtorch
    what = (libtorch.version or "of unknown version", PLATFORMS[libtorch.platform], libtorch.arch)
    accelerator = " ".join(filter(None, (ACCELERATORS[libtorch.accelerator], libtorch.accelerator_version)))
    yield "libtorch", [" ".join((*what, accelerator))]
    yield "in", [f"{libtorch.root}  ({plural(report.files, 'file')}, {report.size / 1e6:.0f} MB)"]
    yield "C++ ABI", [abi_text(libtorch)]
    yield (
        "companions",
        [line for each in report.companions for line in (each.wheel.name, *_indented(each.libraries))],
    )
    yield "left out", wrap(report.left_out)
    yield "patched", wrap(report.patched)
    yield "contradictions", libtorch.conflicts
    yield "missing", list(_missing(report))


def _indented(names: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in wrap(names, width=82)]


def _missing(report: ExtractReport) -> Iterator[str]:
    """Return the libraries that no wheel contained, then the command that downloads them."""
    libtorch = report.libtorch
    for missing in libtorch.missing_libraries:
        of = f" of {missing.package}" if missing.package else ""
        yield f"{missing.name}{of}, needed by {missing.needed_by}"
    command = download_command(libtorch.missing_libraries, report.wheel.name, libtorch.arch)
    if command:
        yield f"download their wheels, for `torchlink extract {report.wheel.name} wheels/*.whl DIR`:"
        yield f"  {command}"
