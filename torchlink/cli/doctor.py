"""`torchlink doctor`: report what this machine has and lacks for building against libtorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Command, Option
from torchlink.cli.output import answer, colored, say

EPILOG = """\b
Examples:
  torchlink doctor
  torchlink doctor --json
  torchlink doctor --libtorch /opt/libtorch
  torchlink doctor --fix-script > fix.sh

\b
Exit code: 0 a CPU program can be built here; 1 something prevents that; 2 the machine could not be examined.
"""


class DoctorArguments(NamedTuple):
    """The command line of `torchlink doctor`."""

    libtorch: Annotated[
        tuple[Path, ...],
        Option("--libtorch", "Check this libtorch instead of all; may be repeated.", metavar="PATH"),
    ] = ()
    python: options.Python = None
    json: options.Json = False
    fix_script: Annotated[
        bool,
        Option("--fix-script", "Print a shell script that would install what is missing; it is not run."),
    ] = False


def doctor(arguments: DoctorArguments) -> int:
    """Report what this machine has for building against libtorch, what works together, and what is missing.

    Lists every libtorch, C++ compiler, linker, tool, driver and GPU; which compiler can build against which
    libtorch; and whether a CUDA build can run. Each problem comes with the command that fixes it. Nothing is
    compiled or changed. * marks the libtorch and the compiler that are used by default.
    """
    from torchlink.cli.progress import working
    from torchlink.doctor.examination import examine
    from torchlink.errors import UsageError

    if arguments.json and arguments.fix_script:
        raise UsageError("--json and --fix-script cannot be combined.", hint="Use only one of them.")
    with working("examining this machine"):
        report = examine(arguments.libtorch, arguments.python)
    if arguments.json:
        from json import dumps

        from torchlink.report.doctor_json import to_json

        answer(dumps(to_json(report), indent=2))
    elif arguments.fix_script:
        from torchlink.report.doctor_json import to_script

        answer(to_script(report).removesuffix("\n"))
    else:
        from torchlink.report.doctor import to_text

        color = colored()
        say(to_text(report, color=color), color=color, end="")
    return report.exit_code


COMMAND = Command(DoctorArguments, doctor, EPILOG)
