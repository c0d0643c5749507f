"""`torchlink lint`: report what is wrong or fragile in a binary that links libtorch."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Command, Option, Positional
from torchlink.cli.output import say
from torchlink.shown import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

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
FORMATS = ("text", "json", "sarif", "github", "junit")
SEVERITIES = ("error", "warning", "note")


def rule_ids(incomplete: str) -> list[str]:
    """Return completions for --select, --ignore and --explain: rule ids, also after a comma."""
    from torchlink.lint.rules import RULES

    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [
        f"{before}{comma}{rule.id}" for rule in RULES if rule.id.startswith(last) and rule.id not in taken
    ]


def targets(incomplete: str) -> list[str]:
    """Return completions for --target."""
    from torchlink.lint.targets import names

    return [name for name in names() if name.startswith(incomplete)]


class LintArguments(NamedTuple):
    """The command line of `torchlink lint`."""

    files: Annotated[
        tuple[Path, ...],
        Positional(
            "FILE...",
            "Programs, libraries, Python extensions, wheels or directories to check; or a .txt file, or - for stdin, "
            "with the output of ldd (glibc's or musl's), ldd -r, ldd -v, lddtree or readelf -d, or a loader's error "
            "message.",
            show_default=False,
        ),
    ] = ()
    select: Annotated[
        tuple[str, ...],
        Option(
            "--select",
            "Check only these rules: ids or globs, comma-separated.",
            metavar="RULES",
            complete=rule_ids,
        ),
    ] = ()
    ignore: Annotated[
        tuple[str, ...], Option("--ignore", "Do not check these rules.", metavar="RULES", complete=rule_ids)
    ] = ()
    fail_on: Annotated[
        str | None,
        Option(
            "--fail-on",
            "The lowest severity that makes the exit code 1. [default: error]",
            choices=SEVERITIES,
        ),
    ] = None
    target: Annotated[
        str | None,
        Option(
            "--target",
            "The oldest system that the binary must run on: debian:12, ubuntu:22.04, manylinux_2_28, glibc=2.31.",
            metavar="SYSTEM",
            complete=targets,
        ),
    ] = None
    allowed_rpath: Annotated[
        tuple[str, ...],
        Option(
            "--allowed-rpath",
            "A prefix that every search path entry (RPATH, RUNPATH) must begin with, e.g. '$ORIGIN/..', quoted for the "
            "shell; may be repeated.",
            metavar="PREFIX",
        ),
    ] = ()
    root: Annotated[
        Path | None,
        Option(
            "--root",
            "Search for libraries in DIR, an image or sysroot, as the dynamic loader would with DIR as its root "
            "directory. FILE itself may be outside it. (The --sysroot of `torchlink bundle` is such a DIR, too.)",
            metavar="DIR",
        ),
    ] = None
    libtorch: Annotated[
        Path | None,
        Option(
            "--libtorch",
            "The libtorch that Python extensions are imported with. [default: that of their site-packages, else the "
            "one that `torchlink find` prints]",
            metavar="PATH",
        ),
    ] = None
    python: Annotated[
        str | None,
        Option("--python", "The Python interpreter that Python extensions are imported by.", metavar="EXE"),
    ] = None
    env: Annotated[
        tuple[str, ...],
        Option(
            "--env",
            "An environment variable that the binary will run with, e.g. LD_LIBRARY_PATH=/opt/lib; may be repeated.",
            metavar="NAME=VALUE",
        ),
    ] = ()
    config: Annotated[
        Path | None,
        Option(
            "--config",
            "The settings file. [default: torchlink.toml or pyproject.toml in this directory or one above]",
            metavar="FILE",
        ),
    ] = None
    baseline: Annotated[
        Path | None,
        Option(
            "--baseline",
            "Known findings, as --write-baseline wrote them: only new ones count.",
            metavar="FILE",
        ),
    ] = None
    write_baseline: Annotated[
        Path | None,
        Option(
            "--write-baseline",
            "Write the current findings to FILE, for --baseline, and exit 0.",
            metavar="FILE",
        ),
    ] = None
    format: Annotated[str, Option("--format", "The output format.", choices=FORMATS)] = "text"
    json: options.Json = False
    tree: Annotated[
        bool, Option("--tree", "Print the libraries as a tree, each with how the loader found it.")
    ] = False
    html: Annotated[
        Path | None,
        Option(
            "--html", "Also write an HTML page with the findings and the dependency graph.", metavar="FILE"
        ),
    ] = None
    verbose: Annotated[
        bool,
        Option(
            "-v --verbose",
            "Show all evidence, where each library was searched, and what the output of a tool does not show.",
        ),
    ] = False
    list_rules: Annotated[bool, Option("--list-rules", "List the rules and exit; no FILE is needed.")] = False
    explain: Annotated[
        str | None,
        Option(
            "--explain",
            "Print the page of a rule and exit; no FILE is needed.",
            metavar="RULE",
            complete=rule_ids,
        ),
    ] = None


def lint(arguments: LintArguments) -> int:
    """Report what is wrong or fragile in binaries that link libtorch; they are read, never run.

    Every finding states what is wrong, where, what it leads to, and the flags that fix it; --explain prints the
    page of a rule. Exit code: 0 no finding at or above --fail-on; 1 at least one; 2 a file could not be checked.
    """
    if arguments.list_rules or arguments.explain is not None:
        return about_rules(arguments)
    if not arguments.files:
        from torchlink.errors import UsageError

        raise UsageError("Missing argument 'FILE...'.", hint="See 'torchlink lint --help'.")
    from torchlink.cli.lint_output import show, write_page
    from torchlink.cli.progress import working
    from torchlink.errors import MalformedFileError
    from torchlink.lint.context import LintOptions
    from torchlink.lint.finding import Severity
    from torchlink.lint.importing import Torches
    from torchlink.lint.linting import lint as run
    from torchlink.lint.policy import config as settings
    from torchlink.lint.rules import RULES, choose
    from torchlink.lint.shell import of_shell

    check_forms(arguments)
    setting = settings.load(Path.cwd(), arguments.config, rules={rule.id: rule for rule in RULES})
    select = rules_in(arguments.select) or setting.select
    ignore = rules_in(arguments.ignore) or setting.ignore
    target = setting.target if arguments.target is None else arguments.target
    form = "json" if arguments.json else arguments.format
    wanted = LintOptions(
        floors={} if target is None else floors(target),
        target=target,
        allowed_rpath=prefixes(arguments.allowed_rpath) or setting.allowed_rpath,
        environment=options.variables(arguments.env),
        shell=of_shell(os.environ),
    )
    rules, torches = choose(select, ignore), Torches(arguments.libtorch, arguments.python)
    piped = standard_input() if any(str(path) == "-" for path in arguments.files) else b""
    # Readers of these formats see neither stderr nor the exit code: unreadable files must be in the report.
    keep_going = form in {"sarif", "github", "junit"}
    try:
        with working("reading binaries"):
            report = run(
                arguments.files,
                wanted,
                rules=rules,
                root=arguments.root,
                standard_input=piped,
                keep_going=keep_going,
                torches=torches,
            )
    except MalformedFileError as error:
        if not is_text(arguments.files[0]):
            raise
        from torchlink.cli.causes import explain_log

        return explain_log(error, arguments.files[0], piped, as_json=form == "json")
    if setting.allow or arguments.baseline or arguments.write_baseline:
        from torchlink.lint.policy import allow, baseline

        report = allow.apply(report, select=select, ignore=ignore, allow=setting.allow)
        if arguments.write_baseline:
            baseline.write(arguments.write_baseline, baseline.of(report))
            say(f"torchlink: wrote {visible(str(arguments.write_baseline))}", err=True)
            return 2 if report.unreadable else 0
        if arguments.baseline:
            known = baseline.read(arguments.baseline)
            report = allow.apply(report, select=select, ignore=ignore, baseline=known)
    threshold = Severity(arguments.fail_on) if arguments.fail_on else setting.fail_on or Severity.ERROR
    if any(file.findings or file.allowed for file in report.files):
        from torchlink.lint.demangle import demangled

        report = demangled(report)
    show(report, form, threshold, tree=arguments.tree, verbose=arguments.verbose)
    if arguments.html is not None:
        write_page(report, arguments.html)
    return 2 if report.unreadable else int(report.fails(threshold))


def is_text(path: Path) -> bool:
    """Whether a file may be the text of a tool."""
    return str(path) == "-" or path.suffix in {".txt", ".log"}


def about_rules(arguments: LintArguments) -> int:
    """Print the list of rules, or the page of one."""
    from torchlink.cli import lint_output
    from torchlink.errors import UsageError

    if arguments.list_rules and arguments.explain is not None:
        raise UsageError("--list-rules and --explain cannot be combined.", hint="Use only one of them.")
    as_json = arguments.json or arguments.format == "json"
    if arguments.explain is not None:
        lint_output.explain(arguments.explain, as_json=as_json)
    else:
        lint_output.list_rules(as_json=as_json)
    return 0


def check_forms(arguments: LintArguments) -> None:
    """Refuse two output formats at once."""
    from torchlink.errors import UsageError

    forms = [form for form, asked in (("--json", arguments.json), ("--tree", arguments.tree)) if asked]
    if arguments.format not in {"text", *("json" for _ in forms if arguments.json)}:
        forms.append(f"--format {arguments.format}")
    if len(forms) > 1:
        raise UsageError(f"{' and '.join(forms)} cannot be combined.", hint="Use only one of them.")


def rules_in(values: Sequence[str]) -> tuple[str, ...]:
    """Split the comma-separated values of --select or --ignore."""
    return tuple(rule.strip() for value in values for rule in value.split(",") if rule.strip())


def prefixes(values: Sequence[str]) -> tuple[str, ...]:
    """Return the prefixes of --allowed-rpath.

    Raises:
        UsageError: one is empty or begins with `/..`, because the shell has expanded an unquoted $ORIGIN.
    """
    from torchlink.errors import UsageError

    for value in values:
        if not value or f"{value}/".startswith("/../"):
            raise UsageError(
                f"--allowed-rpath {value or 'without a prefix'}: the shell has expanded $ORIGIN to nothing.",
                hint="Quote it: --allowed-rpath '$ORIGIN/..'",
            )
    return tuple(values)


def floors(target: str) -> dict[str, tuple[int, ...]]:
    """Return the newest symbol versions that a target system has."""
    from torchlink.lint.targets import parse_target

    return dict(parse_target(target))


def standard_input() -> bytes:
    """Read stdin for `-`, up to one byte more than the limit, so that the reader can report an excess."""
    from torchlink.lint.text.tool_output import LARGEST_TEXT

    if sys.stdin is None:
        return b""
    if sys.stdin.isatty():
        say("torchlink: reading the output of ldd from the terminal (end it with Ctrl-D) …", err=True)
    return sys.stdin.buffer.read(LARGEST_TEXT + 1)


COMMAND = Command(LintArguments, lint, EPILOG)
