"""`torchlink bundle`: a binary with its libtorch and all else that it needs, to be moved anywhere."""

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
  torchlink bundle ./app out --dry-run             # what would be copied, and what rewritten
  torchlink bundle ./app out --add ./plugins/libmine.so
  torchlink bundle ./app out --env LD_LIBRARY_PATH=/opt/libtorch/lib
  torchlink bundle ./app out --keep-system-cxx --exclude 'libopenblas*'

\b
Exit code: 0 bundled, lint finds no error in it; 1 a library is missing, or lint finds an error in the bundle;
2 it could not be done. Nothing is written where a library is missing.
"""


# By the fields of `BundleOptions`.
OPTIONS = {
    "add": Option("--add", "A library that the program opens by name; repeatable.", metavar="FILE"),
    "exclude": Option("--exclude", "Leave these libraries to the system; repeatable.", metavar="GLOB"),
    "include": Option(
        "--include", "Bundle these although the policy leaves them out; repeatable.", metavar="GLOB"
    ),
    "keep_system_cxx": Option(
        "--keep-system-cxx",
        "Leave libstdc++ and libgcc_s to the system, whose own must then be as new as here.",
    ),
    "sysroot": Option(
        "--sysroot",
        "For a binary of another machine: where its system's libraries are, e.g. /usr/aarch64-linux-gnu.",
        metavar="DIR",
    ),
}


class BundleArguments(NamedTuple):
    """The command line of `torchlink bundle`."""

    binary: Annotated[Path, Positional("BINARY", "A program or shared library.")]
    directory: Annotated[Path, Positional("DIR", "Where to. It may not exist yet, or be empty.")]
    bundle: Annotated[BundleOptions, OPTIONS] = BundleOptions()
    env: Annotated[
        tuple[str, ...],
        Option(
            "--env",
            "The environment in which it finds its libraries now, e.g. LD_LIBRARY_PATH=/opt/lib.",
            metavar="NAME=VALUE",
        ),
    ] = ()
    force: Annotated[bool, Option("--force", "Replace a bundle that was made there before.")] = False
    dry_run: Annotated[
        bool, Option("--dry-run", "Say what would be copied and rewritten, and write nothing.")
    ] = False
    json: options.Json = False


def bundle(arguments: BundleArguments) -> int:
    """Copy a binary and the libraries that it needs into a directory that runs from anywhere.

    What belongs to glibc, the GPU's driver or the display stays with the system. Libraries that torch opens by
    name (cuDNN's parts, NVRTC, …) come along. Files are copied as they are wherever their own search path works
    in the new place; patchelf rewrites it in the others. DIR/manifest.json says what each file is, where it is
    from and its SHA-256; DIR/licenses holds the licence texts of the packages. The binary is read, never run.
    """
    from torchlink.bundle.making import bundle as make
    from torchlink.cli.progress import watched
    from torchlink.lint.finding import Severity
    from torchlink.report.bundle import to_json, to_text

    binary = arguments.binary
    wanted = arguments.bundle._replace(environment=options.variables(arguments.env))
    report = watched(
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
        say(visible(f"torchlink: {glob!r} fits none of the libraries that {binary.name} needs."), err=True)
    if arguments.json:
        from json import dumps

        answer(dumps(to_json(report), indent=2))
    else:
        say(to_text(report), end="")
    wrong = report.lint is not None and report.lint.fails(Severity.ERROR)
    return int(wrong)


COMMAND = Command(BundleArguments, bundle, EPILOG)
