"""What `torchlink lint` does once its options are known. It knows nothing of typer: see `cli.plain`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.cli.output import say
from torchlink.cli.plain import Option, read
from torchlink.shown import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMATS = ("text", "json", "sarif", "github", "junit")
SEVERITIES = ("error", "warning", "note")


class Wishes(NamedTuple):
    """The options of `torchlink lint` by the names of its parameters in `cli.lint`."""

    files: Sequence[Path]
    select: Sequence[str] | None = None
    ignore: Sequence[str] | None = None
    fail_on: str | None = None
    target: str | None = None
    allowed_rpath: Sequence[str] | None = None
    root: Path | None = None
    libtorch: Path | None = None
    python: str | None = None
    env: Sequence[str] | None = None
    config: Path | None = None
    baseline: Path | None = None
    write_baseline: Path | None = None
    output: str = "text"
    as_json: bool = False
    tree: bool = False
    html: Path | None = None
    verbose: bool = False
    list_rules: bool = False
    explain: str | None = None


OPTIONS = {
    "--select": Option("select", list),
    "--ignore": Option("ignore", list),
    "--fail-on": Option("fail_on", choices=SEVERITIES),
    "--target": Option("target"),
    "--allowed-rpath": Option("allowed_rpath", list),
    "--root": Option("root", Path),
    "--libtorch": Option("libtorch", Path),
    "--python": Option("python"),
    "--env": Option("env", list),
    "--config": Option("config", Path),
    "--baseline": Option("baseline", Path),
    "--write-baseline": Option("write_baseline", Path),
    "--format": Option("output", choices=FORMATS),
    "--json": Option("as_json", bool),
    "--tree": Option("tree", bool),
    "--html": Option("html", Path),
    "-v": Option("verbose", bool),
    "--verbose": Option("verbose", bool),
    "--list-rules": Option("list_rules", bool),
    "--explain": Option("explain"),
}


def plain(arguments: Sequence[str]) -> Wishes | None:
    """The options in the words behind `lint`; None where there is anything for typer to say."""
    words = read(arguments, OPTIONS)
    if words is None or not (words[1] or {"list_rules", "explain"} & words[0].keys()):
        return None
    return Wishes(words[1], **words[0])  # type: ignore[arg-type]  # the table's types


def run(wishes: Wishes) -> int:
    """Judge, print, and return the exit code.

    Raises:
        TorchlinkError: an option makes no sense, or the one file that was named cannot be judged.
    """
    if wishes.list_rules or wishes.explain is not None:
        return about_rules(wishes)
    if not wishes.files:
        from torchlink.errors import UsageError

        raise UsageError("Missing argument 'FILE...'.", hint="See 'torchlink lint --help'.")
    from torchlink.cli.lint_output import show, write_page
    from torchlink.cli.progress import working
    from torchlink.lint import config as settings
    from torchlink.lint.case import Wanted
    from torchlink.lint.finding import Severity
    from torchlink.lint.rules import RULES, choose
    from torchlink.lint.run import lint
    from torchlink.lint.shell import of_shell
    from torchlink.lint.torches import Torches

    check_forms(wishes)
    setting = settings.load(Path.cwd(), wishes.config, rules={rule.id: rule for rule in RULES})
    select, ignore = words(wishes.select) or setting.select, words(wishes.ignore) or setting.ignore
    target = setting.target if wishes.target is None else wishes.target
    form = "json" if wishes.as_json else wishes.output
    wanted = Wanted(
        floors={} if target is None else floors(target),
        target=target,
        allowed_rpath=prefixes(wishes.allowed_rpath or ()) or setting.allowed_rpath,
        environment=environment(wishes.env or ()),
        shell=of_shell(os.environ),
    )
    rules, torches = choose(select, ignore), Torches(wishes.libtorch, wishes.python)
    piped = standard_input() if any(str(path) == "-" for path in wishes.files) else b""
    # Who reads these looks at no exit code and no stderr: the report itself must say it.
    keep_going = form in {"sarif", "github", "junit"}
    with working("reading binaries"):
        report = lint(
            wishes.files,
            wanted,
            rules=rules,
            root=wishes.root,
            standard_input=piped,
            keep_going=keep_going,
            torches=torches,
        )
    if setting.allow or wishes.baseline or wishes.write_baseline:
        from torchlink.lint import allow, baseline

        report = allow.apply(report, select=select, ignore=ignore, allow=setting.allow)
        if wishes.write_baseline:
            baseline.write(wishes.write_baseline, baseline.of(report))
            say(f"torchlink: wrote {visible(str(wishes.write_baseline))}", err=True)
            return 2 if report.unreadable else 0
        if wishes.baseline:
            known = baseline.read(wishes.baseline)
            report = allow.apply(report, select=select, ignore=ignore, baseline=known)
    threshold = Severity(wishes.fail_on) if wishes.fail_on else setting.fail_on or Severity.ERROR
    if any(file.findings or file.allowed for file in report.files):
        from torchlink.lint.demangle import demangled

        report = demangled(report)
    show(report, form, threshold, tree=wishes.tree, verbose=wishes.verbose)
    if wishes.html is not None:
        write_page(report, wishes.html)
    return 2 if report.unreadable else int(report.fails(threshold))


def about_rules(wishes: Wishes) -> int:
    """Print the list of the rules, or the page of one."""
    from torchlink.cli import lint_rules
    from torchlink.errors import UsageError

    if wishes.list_rules and wishes.explain is not None:
        raise UsageError("--list-rules and --explain exclude one another.", hint="Use only one of them.")
    as_json = wishes.as_json or wishes.output == "json"
    if wishes.explain is not None:
        lint_rules.explain(wishes.explain, as_json=as_json)
    else:
        lint_rules.list_rules(as_json=as_json)
    return 0


def check_forms(wishes: Wishes) -> None:
    """Refuse two forms at once for one output."""
    from torchlink.errors import UsageError

    forms = [form for form, asked in (("--json", wishes.as_json), ("--tree", wishes.tree)) if asked]
    if wishes.output not in {"text", *("json" for _ in forms if wishes.as_json)}:
        forms.append(f"--format {wishes.output}")
    if len(forms) > 1:
        raise UsageError(f"{' and '.join(forms)} do not go together.", hint="Ask for one of them.")


def words(values: Sequence[str] | None) -> tuple[str, ...]:
    """The ids of options that take several by commas."""
    return tuple(word.strip() for value in values or () for word in value.split(",") if word.strip())


def prefixes(values: Sequence[str]) -> tuple[str, ...]:
    """The prefixes of --allowed-rpath; one that the shell took the $ORIGIN from would allow nothing, or everything."""
    from torchlink.errors import UsageError

    for value in values:
        if not value or f"{value}/".startswith("/../"):
            raise UsageError(
                f"--allowed-rpath {value or 'without a prefix'}: the shell has replaced $ORIGIN by nothing.",
                hint="Quote it: --allowed-rpath '$ORIGIN/..'",
            )
    return tuple(values)


def floors(target: str) -> dict[str, tuple[int, ...]]:
    """The newest symbol versions that a target system has."""
    from torchlink.lint.targets import parse_target

    return dict(parse_target(target))


def environment(settings: Sequence[str]) -> dict[str, str]:
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


def standard_input() -> bytes:
    """What stands for `-`; one byte more than is taken tells that it is too much."""
    from torchlink.lint.text_formats.detect import LARGEST_TEXT

    if sys.stdin is None:
        return b""
    if sys.stdin.isatty():
        say("torchlink: waiting for the output of ldd (end it with Ctrl-D) …", err=True)
    return sys.stdin.buffer.read(LARGEST_TEXT + 1)
