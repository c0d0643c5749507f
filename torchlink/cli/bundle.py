"""`torchlink bundle`: copy a binary and the libraries it needs, libtorch included, into a relocatable directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

from torchlink.bundle.options import BundleOptions
from torchlink.cli import options
from torchlink.cli.declaration import Command, Option, Positional
from torchlink.cli.output import answer, say
from torchlink.shown import visible

EPILOG = """\b
Examples:
  torchlink bundle ./app out && env -i ./out/app model.pt
  torchlink bundle ./app out --dry-run             # print what would be copied and rewritten
  torchlink bundle ./app out --add ./plugins/libmine.so
  torchlink bundle ./app out --env LD_LIBRARY_PATH=/opt/libtorch/lib
  torchlink bundle ./app out --keep-system-cxx --exclude 'libopenblas*'

\b
Exit code: 0 bundled, and lint finds no error in it; 1 a library is missing, or lint finds an error in the bundle;
2 it could not be bundled. If a library is missing, nothing is written.
"""


# The options by the fields of `BundleOptions`.
OPTIONS = {
    "add": Option(
        "--add",
        "Also bundle FILE, a library that the program opens with dlopen; may be repeated.",
        metavar="FILE",
    ),
    "exclude": Option(
        "--exclude",
        "Do not bundle these libraries: the system must have them; may be repeated.",
        metavar="GLOB",
    ),
    "include": Option(
        "--include",
        "Bundle these libraries although they are left to the system by default; may be repeated.",
        metavar="GLOB",
    ),
    "keep_system_cxx": Option(
        "--keep-system-cxx",
        "Do not bundle libstdc++ and libgcc_s: those of the target system must be as new as the ones here.",
    ),
    "sysroot": Option(
        "--sysroot",
        "For a binary of another architecture: the directory that holds its system's libraries, e.g. "
        "/usr/aarch64-linux-gnu, the sysroot of the cross compiler. BINARY itself may be outside it. (The --root of "
        "`torchlink lint` is such a DIR, too.)",
        metavar="DIR",
    ),
}


class BundleArguments(NamedTuple):
    """The command line of `torchlink bundle`."""

    binary: Annotated[Path, Positional("BINARY", "A program or shared library.")]
    directory: Annotated[Path, Positional("DIR", "The directory to create. If it exists, it must be empty.")]
    bundle: Annotated[BundleOptions, OPTIONS] = BundleOptions()
    env: Annotated[
        tuple[str, ...],
        Option(
            "--env",
            "An environment variable with which the binary finds its libraries now, e.g. LD_LIBRARY_PATH=/opt/lib; "
            "may be repeated.",
            metavar="NAME=VALUE",
        ),
    ] = ()
    force: Annotated[bool, Option("--force", "Replace an older bundle in DIR.")] = False
    dry_run: Annotated[
        bool, Option("--dry-run", "Print what would be copied and rewritten, and write nothing.")
    ] = False
    json: options.Json = False


def bundle(arguments: BundleArguments) -> int:
    """Copy a binary and the libraries that it needs into a directory that can be moved anywhere.

    The libraries of glibc, of the GPU driver and of the display stay with the system. Libraries that torch opens
    with dlopen (parts of cuDNN, NVRTC, …) are included. A file is copied unchanged if its search path works in the
    new place; otherwise patchelf rewrites the search path. DIR/manifest.json lists each file with its origin and
    its SHA-256; DIR/licenses holds the licence texts of the packages. The binary is read, never run.
    """
    from torchlink.bundle.making import bundle as make
    from torchlink.cli.progress import with_progress_bar
    from torchlink.lint.finding import Severity
    from torchlink.report.bundle import to_json, to_text

    binary = arguments.binary
    wanted = arguments.bundle._replace(environment=options.variables(arguments.env))
    report = with_progress_bar(
        lambda progress: make(
            binary,
            arguments.directory,
            wanted,
            force=arguments.force,
            dry=arguments.dry_run,
            progress=progress,
        )
    )
    for glob in report.plan.unmatched:
        say(visible(f"torchlink: {glob!r} matches none of the libraries that {binary.name} needs."), err=True)
    if arguments.json:
        from json import dumps

        answer(dumps(to_json(report), indent=2))
    else:
        say(to_text(report), end="")
    return int(report.lint is not None and report.lint.fails(Severity.ERROR))


COMMAND = Command(BundleArguments, bundle, EPILOG)
