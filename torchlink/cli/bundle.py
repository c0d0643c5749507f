"""`torchlink bundle`: a binary with its libtorch and all else that it needs, to be moved anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchlink.cli.options import JsonOption
from torchlink.cli.output import answer, say
from torchlink.shown import visible

app = typer.Typer(add_completion=False, rich_markup_mode=None)

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


@app.command(epilog=EPILOG)
def bundle(
    *,
    binary: Annotated[Path, typer.Argument(metavar="BINARY", help="A program or shared library.")],
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to. It may not exist yet, or be empty.")
    ],
    add: Annotated[
        list[Path] | None,
        typer.Option("--add", metavar="FILE", help="A library that the program opens by name; repeatable."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="GLOB", help="Leave these libraries to the system; repeatable."),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include", metavar="GLOB", help="Bundle these although the policy leaves them out; repeatable."
        ),
    ] = None,
    keep_system_cxx: Annotated[
        bool,
        typer.Option(
            "--keep-system-cxx",
            help="Leave libstdc++ and libgcc_s to the system, whose own must then be as new as here.",
        ),
    ] = False,
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env",
            metavar="NAME=VALUE",
            help="The environment in which it finds its libraries now, e.g. LD_LIBRARY_PATH=/opt/lib.",
        ),
    ] = None,
    sysroot: Annotated[
        Path | None,
        typer.Option(
            "--sysroot",
            metavar="DIR",
            help="For a binary of another machine: where its system's libraries are, e.g. /usr/aarch64-linux-gnu.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a bundle that was made there before.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be copied and rewritten, and write nothing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Copy a binary and the libraries that it needs into a directory that runs from anywhere.

    What belongs to glibc, the GPU's driver or the display stays with the system. Libraries that torch opens by
    name (cuDNN's parts, NVRTC, …) come along. Files are copied as they are wherever their own search path works
    in the new place; patchelf rewrites it in the others. DIR/manifest.json says what each file is, where it is
    from and its SHA-256; DIR/licenses holds the licence texts of the packages. The binary is read, never run.
    """
    from torchlink.bundle.planning import Wishes
    from torchlink.bundle.run import bundle as make
    from torchlink.cli.lint_run import environment
    from torchlink.cli.progress import watched
    from torchlink.lint.finding import Severity
    from torchlink.report.bundle import to_json, to_text

    wishes = Wishes(
        keep_system_cxx=keep_system_cxx,
        exclude=tuple(exclude or ()),
        include=tuple(include or ()),
        add=tuple(add or ()),
        environment=environment(env or []),
        sysroot=sysroot,
    )
    report = watched(
        lambda progress: make(binary, directory, wishes, force=force, dry=dry_run, progress=progress)
    )
    for glob in report.plan.unmatched:
        say(visible(f"torchlink: {glob!r} fits none of the libraries that {binary.name} needs."), err=True)
    if json:
        from json import dumps

        answer(dumps(to_json(report), indent=2))
    else:
        say(to_text(report), end="")
    wrong = report.lint is not None and report.lint.fails(Severity.ERROR)
    raise typer.Exit(int(wrong))
