"""What `torchlink flags` does once its options are known. It knows nothing of typer: see `cli.plain`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.cli.output import answer
from torchlink.cli.plain import Option, read
from torchlink.cli.planning import cxx_standard, locate, plan_for, say_notes
from torchlink.errors import UsageError, WouldOverwriteError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.plan import LinkPlan

# How a response file by torchlink begins; anything else is a file of the user's.
OWN_BEGINNINGS = (
    "-D_GLIBCXX_USE_CXX11_ABI=",
    "-isystem",
    "-idirafter",
    "-std=c++",
    "-L",
    "-l",
    "-Wl,",
    "-Xlinker",
    "/MD",
    "/LIBPATH:",
)


class Order(NamedTuple):
    """The options of `torchlink flags`."""

    libtorch: Path | None = None
    python: str | None = None
    cxx: bool = False
    cmake: bool = False
    nim: bool = False
    pkg_config: bool = False
    json: bool = False
    compile_half: bool = False
    link_half: bool = False
    cpu: bool = False
    rpath: str = "absolute"
    headers: str = "system"
    aoti: bool = False
    std: int | None = None
    compiler: str | None = None
    response_file: Path | None = None
    force: bool = False


OPTIONS = {
    "--libtorch": Option("libtorch", Path),
    "--python": Option("python"),
    "--cxx": Option("cxx", bool),
    "--cmake": Option("cmake", bool),
    "--nim": Option("nim", bool),
    "--pkg-config": Option("pkg_config", bool),
    "--json": Option("json", bool),
    "--compile": Option("compile_half", bool),
    "--link": Option("link_half", bool),
    "--cpu": Option("cpu", bool),
    "--rpath": Option("rpath"),
    "--headers": Option("headers"),
    "--aoti": Option("aoti", bool),
    "--std": Option("std", cxx_standard),
    "--compiler": Option("compiler"),
    "--response-file": Option("response_file", Path),
    "--force": Option("force", bool),
}


def plain(arguments: Sequence[str]) -> Order | None:
    """The options in the words behind `flags`; None where there is anything for typer to say."""
    words = read(arguments, OPTIONS)
    return None if words is None or words[1] else Order(**words[0])  # type: ignore[arg-type]  # the table's types


def run(order: Order) -> int:
    """Print the words, and return the exit code.

    Raises:
        UsageError: the options do not go together.
        TorchlinkError: there is no libtorch or no compiler to print words for.
    """
    asked = {
        "cxx": order.cxx,
        "cmake": order.cmake,
        "nim": order.nim,
        "pkg-config": order.pkg_config,
        "json": order.json,
    }
    targets = [name for name, wanted in asked.items() if wanted] or ["cxx"]
    if len(targets) > 1:
        raise UsageError(f"--{' and --'.join(targets)} ask for two answers at once.", hint="Name one target.")
    if order.response_file and targets != ["cxx"]:
        raise UsageError(
            f"--response-file goes with --cxx, not with --{targets[0]}.", hint="Leave one of them away."
        )
    half = "both" if order.compile_half == order.link_half else "compile" if order.compile_half else "link"

    from torchlink.plan import Wishes

    wishes = Wishes(
        cpu_only=order.cpu,
        rpath=order.rpath,
        headers=order.headers,
        aoti=order.aoti,
        cxx_standard=order.std,
        compiles=half != "link",
    )
    plan = plan_for(locate(order.libtorch, order.python), wishes, order.compiler)
    if order.response_file:
        write_response_file(plan, half, order.response_file, force=order.force)
    else:
        from torchlink.emit import emit

        answer(emit(plan, targets[0], half))
    say_notes(plan)
    return 0


def write_response_file(plan: LinkPlan, half: str, path: Path, *, force: bool) -> None:
    """Write the words for `c++ @PATH`, over an older response file but over nothing else."""
    from torchlink.atomic import unwritable, write_file
    from torchlink.emit import cxx

    try:
        if (
            path.is_file() and not force
        ):  # a pipe has nothing of the user's, and reading it would wait for ever
            before = path.read_bytes().decode("latin-1")
            if before.strip() and not before.startswith(OWN_BEGINNINGS):
                raise WouldOverwriteError(
                    f"{path} is no response file of torchlink's; it was left as it is.",
                    hint="Name another file, or give --force to overwrite it.",
                )
        write_file(path, os.fsencode(cxx.response_file(plan, half)))
    except OSError as error:
        raise unwritable(path, error, "Name a file that you may write.") from error
