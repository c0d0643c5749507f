"""`torchlink lint`: what is wrong or fragile in a binary that links libtorch."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from torchlink.cli.options import JsonOption  # noqa: TC001 - typer reads the annotations

app = typer.Typer(add_completion=False, rich_markup_mode=None)

EPILOG = """\b
Examples:
  torchlink lint ./app
  ldd ./app | torchlink lint -
  torchlink lint --tree -v ./app
  torchlink lint --target debian:12 --fail-on warning build/*.so
  torchlink lint --format sarif ./app > out.sarif
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


@app.command(epilog=EPILOG)
def lint(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Programs, libraries, Python extensions, wheels, directories; - or a .txt with the output of "
            "ldd, ldd -r, ldd -v, lddtree or readelf -d.",
            show_default=False,
        ),
    ],
    *,
    select: Annotated[
        list[str] | None,
        typer.Option("--select", metavar="RULES", help="Only these rules (ids or globs, by commas)."),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", metavar="RULES", help="Not these rules.")
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
            help="The oldest system it must run on: debian:12, ubuntu:22.04, manylinux_2_28, glibc=2.31.",
        ),
    ] = None,
    allowed_rpath: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-rpath",
            metavar="PREFIX",
            help="A search path entry must begin so, e.g. $ORIGIN; may be repeated.",
        ),
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", metavar="DIR", help="Judge as in the image or sysroot below DIR.")
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
) -> None:
    """Say what is wrong or fragile in binaries that link libtorch; they are read, never run.

    Every finding says what, where, why it will hurt and the words that mend it; docs/rules has a page on
    each rule. Exit code 0: nothing at or above --fail-on; 1: something; 2: a file could not be judged.
    """
    import sys

    from torchlink.cli.lint_output import show, write_page
    from torchlink.lint import allow
    from torchlink.lint import baseline as known
    from torchlink.lint import config as settings
    from torchlink.lint.case import Wanted
    from torchlink.lint.finding import Severity
    from torchlink.lint.rules import RULES
    from torchlink.lint.run import UNREADABLE
    from torchlink.lint.run import lint as judge_all

    setting = settings.load(Path.cwd(), config, rules={rule.id for rule in RULES})
    chosen, left_out = words(select) or setting.select, words(ignore) or setting.ignore
    check_rules((*chosen, *left_out), {rule.id for rule in RULES})
    wanted_target = target or setting.target
    report = judge_all(
        files,
        Wanted(
            floors=floors(wanted_target),
            target=wanted_target,
            allowed_rpath=tuple(allowed_rpath or setting.allowed_rpath),
            environment=environment(env or []),
        ),
        rules=[rule for rule in RULES if allow.selected(rule.id, chosen, left_out)],
        root=root,
        standard_input=sys.stdin.read() if any(str(path) == "-" for path in files) else "",
    )
    report = allow.apply(report, select=chosen, ignore=left_out, allow=setting.allow)
    if write_baseline is not None:
        known.write(write_baseline, known.of(report))
        typer.echo(f"torchlink: wrote {write_baseline}", err=True)
        return
    if baseline is not None:
        report = allow.apply(report, select=chosen, ignore=left_out, baseline=known.read(baseline))
    threshold = Severity(fail_on.value) if fail_on else setting.fail_on or Severity.ERROR
    show(report, "json" if as_json else output.value, threshold, tree=tree, verbose=verbose)
    if html is not None:
        write_page(report, html)
    if any(file.kind == UNREADABLE for file in report.files):
        raise typer.Exit(2)
    raise typer.Exit(int(report.fails(threshold)))


def words(values: list[str] | None) -> tuple[str, ...]:
    """The ids of options that take several by commas."""
    return tuple(word.strip() for value in values or () for word in value.split(",") if word.strip())


def check_rules(patterns: tuple[str, ...], rules: set[str]) -> None:
    """Refuse a pattern that fits no rule: a misspelt --ignore would silently ignore nothing."""
    from torchlink.errors import UsageError
    from torchlink.lint.patterns import matching

    for pattern in patterns:
        if not any(matching(rule, (pattern,)) for rule in rules):
            raise UsageError(
                f"There is no rule {pattern!r}.", hint=f"The rules are: {', '.join(sorted(rules))}."
            )


def floors(target: str | None) -> dict[str, tuple[int, ...]]:
    """The newest symbol versions that a target system has."""
    if target is None:
        return {}
    from torchlink.lint.targets import parse_target

    return dict(parse_target(target))


def environment(settings: list[str]) -> dict[str, str]:
    """The variables of --env."""
    from torchlink.errors import UsageError

    variables = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name and equals):
            raise UsageError(
                f"--env {setting} is not NAME=VALUE.", hint="For example --env LD_LIBRARY_PATH=/opt/lib"
            )
        variables[name] = value
    return variables
