"""`torchlink lint`: what is wrong or fragile in a binary that links libtorch."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from torchlink.cli.options import JsonOption

app = typer.Typer(add_completion=False, rich_markup_mode=None)

EPILOG = """\b
Examples:
  torchlink lint ./app
  ldd -r ./app 2>&1 | torchlink lint -
  torchlink lint --tree -v ./app
  torchlink lint --target debian:12 --fail-on warning build/*.so
  torchlink lint --format sarif ./app > out.sarif
  torchlink lint --explain abi-mismatch
  torchlink lint --html report.html dist/mine-1.0-cp312-cp312-linux_x86_64.whl
"""


class Format(str, enum.Enum):
    """Values of --format."""

    text = "text"
    json = "json"
    sarif = "sarif"
    github = "github"
    junit = "junit"


class Threshold(str, enum.Enum):
    """Values of --fail-on."""

    error = "error"
    warning = "warning"
    note = "note"


def rule_ids(incomplete: str) -> list[str]:
    """What --select and --ignore take, for a shell's completion: ids of rules, also after a comma."""
    from torchlink.lint.rules import RULES

    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [
        f"{before}{comma}{rule.id}" for rule in RULES if rule.id.startswith(last) and rule.id not in taken
    ]


def targets(incomplete: str) -> list[str]:
    """The systems that --target knows, for a shell's completion."""
    from torchlink.lint.targets import names

    return [name for name in names() if name.startswith(incomplete)]


@app.command(epilog=EPILOG)
def lint(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE...",
            help="Programs, libraries, Python extensions, wheels, directories; - or a .txt with the output of "
            "ldd (glibc's or musl's), ldd -r, ldd -v, lddtree or readelf -d.",
            show_default=False,
        ),
    ] = None,
    *,
    select: Annotated[
        list[str] | None,
        typer.Option(
            "--select",
            metavar="RULES",
            autocompletion=rule_ids,
            help="Only these rules (ids or globs, by commas).",
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="RULES", autocompletion=rule_ids, help="Not these rules."),
    ] = None,
    fail_on: Annotated[
        Threshold | None,
        typer.Option("--fail-on", help="The least severity that makes the exit code 1. [default: error]"),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="SYSTEM",
            autocompletion=targets,
            help="The oldest system it must run on: debian:12, ubuntu:22.04, manylinux_2_28, glibc=2.31.",
        ),
    ] = None,
    allowed_rpath: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-rpath",
            metavar="PREFIX",
            help="A search path entry must begin so, e.g. '$ORIGIN/..' (quoted, for the shell); may be repeated.",
        ),
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", metavar="DIR", help="Judge as in the image or sysroot below DIR.")
    ] = None,
    libtorch: Annotated[
        Path | None,
        typer.Option(
            "--libtorch",
            metavar="PATH",
            help="The libtorch that Python extensions are imported with. [default: that of their site-packages, else "
            "what `torchlink find` takes]",
        ),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option("--python", metavar="PYTHON", help="The Python whose torch they are imported with."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env",
            metavar="NAME=VALUE",
            help="The environment it will run in, e.g. LD_LIBRARY_PATH=/opt/lib.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Settings; default: torchlink.toml or pyproject.toml, upward from here.",
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option("--baseline", metavar="FILE", help="Findings that are known: only others count."),
    ] = None,
    write_baseline: Annotated[
        Path | None,
        typer.Option(
            "--write-baseline", metavar="FILE", help="Write what is found now as the baseline, and exit 0."
        ),
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print the findings.")] = Format.text,
    as_json: JsonOption = False,
    tree: Annotated[
        bool, typer.Option("--tree", help="The closure as a tree, each edge with how it was found.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Also write a page with findings and the dependency graph."
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Show where each library was searched.")
    ] = False,
    list_rules: Annotated[
        bool, typer.Option("--list-rules", help="List the rules and exit; no FILE is needed.")
    ] = False,
    explain: Annotated[
        str | None,
        typer.Option(
            "--explain",
            metavar="RULE",
            autocompletion=rule_ids,
            help="Print the page of a rule and exit; no FILE is needed.",
        ),
    ] = None,
) -> None:
    """Say what is wrong or fragile in binaries that link libtorch; they are read, never run.

    Every finding says what, where, why it will hurt and the words that mend it; --explain prints the page
    of a rule. Exit code 0: nothing at or above --fail-on; 1: something; 2: a file could not be judged.
    """
    from torchlink.cli.lint_run import Wishes, run

    raise typer.Exit(
        run(
            Wishes(
                files=files or (),
                select=select,
                ignore=ignore,
                fail_on=fail_on.value if fail_on else None,
                target=target,
                allowed_rpath=allowed_rpath,
                root=root,
                libtorch=libtorch,
                python=python,
                env=env,
                config=config,
                baseline=baseline,
                write_baseline=write_baseline,
                output=output.value,
                as_json=as_json,
                tree=tree,
                html=html,
                verbose=verbose,
                list_rules=list_rules,
                explain=explain,
            )
        )
    )
