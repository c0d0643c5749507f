"""`torchlink report`: work with the reports of earlier runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

from torchlink.cli.declaration import Command, CommandGroup, Option, Positional
from torchlink.cli.output import answer, colored, say

EPILOG = """\b
Examples:
  torchlink verify models/ --shard 1/2 --json > a.json   # on one machine
  torchlink verify models/ --shard 2/2 --json > b.json   # on another
  torchlink report merge a.json b.json > all.json
  torchlink report merge a.json b.json --text --junit all.xml
"""


class MergeArguments(NamedTuple):
    """The command line of `torchlink report merge`."""

    reports: Annotated[
        tuple[Path, ...],
        Positional(
            "REPORT...", "Files with the JSON, or the JSON lines, of `torchlink verify`.", show_default=False
        ),
    ]
    text: Annotated[bool, Option("--text", "Print a table instead of JSON.")] = False
    junit: Annotated[
        Path | None, Option("--junit", "Also write JUnit XML, one test case per model.", metavar="FILE")
    ] = None


def merge(arguments: MergeArguments) -> int:
    """Print the reports of several `torchlink verify` runs as one: the JSON that a single run would have printed.

    Shards (--shard I/N) are put in the order of the whole run; all must be given, and be of one libtorch. The exit
    code is that of a single run: 0 every model is ok, 1 one failed, 2 one could not be checked.
    """
    from json import dumps

    from torchlink.report import verify_records as records

    report = records.merged([(path, records.read_report(path)) for path in arguments.reports])
    models = [records.result_of(entry) for entry in report["models"]]
    if arguments.junit is not None:
        from torchlink.cli.verify_output import write_junit

        libtorch = report["libtorch"]
        version = libtorch.get("version") if isinstance(libtorch, dict) else None
        write_junit(arguments.junit, models, version if isinstance(version, str) else None)
    if arguments.text:
        from torchlink.report.verify import models_to_text

        color = colored()
        say(
            models_to_text(models, interrupted=bool(report.get("interrupted")), color=color),
            color=color,
            end="",
        )
    else:
        answer(dumps(report, indent=2))
    codes = (model.error.exit_code for model in models if model.error)
    return max(int(not report["ok"]), *codes, 0)


COMMAND = CommandGroup(
    {"merge": Command(MergeArguments, merge)},
    help="Merge the reports of earlier `torchlink verify` runs.",
    epilog=EPILOG,
)
