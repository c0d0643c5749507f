"""A matrix of verifications as GitHub Actions takes it: one job a verification, each on a runner that can do it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

from torchlink.report.matrix import title

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.libtorch.facts import Libtorch
    from torchlink.matrix.facts import Column, Row

# GitHub's own runners by the platform and the machine that a libtorch is for (its documentation, 2026).
RUNNERS = {
    ("linux", "x86_64"): "ubuntu-24.04",
    ("linux", "aarch64"): "ubuntu-24.04-arm",
    ("macos", "arm64"): "macos-14",
    ("macos", "x86_64"): "macos-15-intel",
}
UNPACKED = "libtorch-unpacked"  # where a job lays a wheel's libtorch


class GithubMatrix(NamedTuple):
    """What `--github` answers."""

    jobs: tuple[dict[str, object], ...]
    left_out: tuple[str, ...]  # why a libtorch has no jobs, a sentence each


def github_matrix(
    rows: Sequence[Row], columns: Sequence[Column], model: str | None, options: Sequence[str] = ()
) -> GithubMatrix:
    """The jobs of what GitHub takes as `strategy.matrix`: `{"include": [{…}]}`.

    `name` is for the job, `runner` for `runs-on`, `run` is the command that verifies, `torch` the release to
    install where the runner has none; a value that is not known is left out.

    Args:
        rows: usable libtorchs.
        columns: compilers and ways of building.
        model: a file; the bundled test model where None.
        options: further words for `torchlink verify`.
    """
    reasons = {row.path: reason for row in rows if row.libtorch and (reason := hopeless(row.libtorch))}
    file = f"./{model}" if model and model.startswith("-") else model  # else it would be an option
    words = [*([file] if file else []), *options]
    return GithubMatrix(
        tuple(_job(row, column, words) for row in rows if row.path not in reasons for column in columns),
        tuple(f"{path} is left out: {reason}." for path, reason in reasons.items()),
    )


def hopeless(libtorch: Libtorch) -> str | None:
    """Why no job could verify a libtorch, or None."""
    if libtorch.platform == "windows":
        return "verify does not build with MSVC, which a libtorch for Windows needs"
    if (libtorch.platform, libtorch.arch) not in RUNNERS:
        return f"GitHub has no runner for {libtorch.platform} {libtorch.arch}"
    if libtorch.packed and libtorch.accelerator != "cpu":
        return (
            "it is not extracted, and needs libraries of other wheels besides; unpack it with them "
            "(torchlink extract TORCH.whl COMPANION.whl... DIR) and name that"
        )
    return None


def _job(row: Row, column: Column, options: Sequence[str]) -> dict[str, object]:
    libtorch = row.libtorch
    packed = libtorch is not None and libtorch.packed
    words = ["torchlink", "verify", *options, "--libtorch", UNPACKED if packed else row.path]
    words += ["--compiler", column.compiler] if column.compiler else []
    words += ["--via", column.via]
    unpack = shlex.join(["torchlink", "extract", row.path, UNPACKED]) + " && " if packed else ""
    job: dict[str, object | None] = {
        "name": f"libtorch {row.version}, {title(column)}",
        "runner": RUNNERS.get((libtorch.platform, libtorch.arch)) if libtorch else None,
        "libtorch": row.path,
        "version": libtorch.version if libtorch else None,
        "torch": libtorch.version.partition("+")[0] if libtorch and libtorch.version else None,
        "platform": libtorch.platform if libtorch else None,
        "arch": libtorch.arch if libtorch else None,
        "cxx11_abi": libtorch.cxx11_abi if libtorch else None,
        "cxx_standard": libtorch.cxx_standard if libtorch else None,
        "accelerator": libtorch.accelerator if libtorch else None,
        "cxx": column.compiler,
        "via": column.via,
        "run": unpack + shlex.join(words),
    }
    return {name: value for name, value in job.items() if value is not None}
