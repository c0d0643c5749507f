"""`torchlink verify`: prove that the words work: build a loader with them, load a model, call its forward."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Argument, Command
from torchlink.cli.output import answer, colored, notes
from torchlink.cli.output import say as print_text
from torchlink.cli.planning import locate
from torchlink.shown import visible
from torchlink.verify.options import DEFAULTS, VerifyOptions

if TYPE_CHECKING:
    from torchlink.lint.finding import Finding
    from torchlink.toolchain.emulator import Emulator
    from torchlink.verify.early import HeadStart
    from torchlink.verify.result import VerifyReport

EPILOG = """\b
Examples:
  torchlink verify
  torchlink verify model.pt
  torchlink verify model.pt --input 'float32[1,3,224,224]=randn:7' --input 3
  torchlink verify model.pt --input @image.npy --expect expected.pt --rtol 1e-3
  torchlink verify model.pt --device cuda --json
  torchlink verify model.pt --library libtorchvision.so
  torchlink verify model.pt --via cmake
  torchlink verify *.pt --timeout 60   # for CI: 60 s for each model

\b
Inputs:
  float32[1,3,224,224]        ones; also =zeros =arange =full:0.5 =rand:SEED =randn:SEED
  int64[1,16]=randint:0:100:7 drawn from 0 up to 99; the random streams are torchlink's own,
                              not those of torch.manual_seed(7)
  @image.npy                  the tensor of a .npy or .pt file
  3  0.5  true  none  'text'  a number, a bool, None, a string
  [float32[2,3], float32[2,3]]  (int64[1], 3)  {'mask': bool[1,8]}

Exit code: 0 every model loaded, ran and gave what was expected; 1 one did not, or lint finds an error in
the loader; 2 it could not be looked at.
"""


class VerifyArguments(NamedTuple):
    """The command line of `torchlink verify`."""

    models: Annotated[
        tuple[Path, ...],
        Argument("[MODEL]...", "TorchScript files; a tiny one that torchlink carries where none is named."),
    ] = ()
    verify: Annotated[VerifyOptions, options.VERIFY] = DEFAULTS
    libtorch: options.Libtorch = None
    python: options.Python = None
    json: options.Json = False


def verify(arguments: VerifyArguments) -> int:
    """Build a loader with the words of `torchlink flags`, load models with it and call their forward.

    The loader is compiled once and kept. It runs without LD_LIBRARY_PATH and LD_PRELOAD, so what works here
    works in a program of yours, and with few other variables (docs/security.md), so that a model cannot
    read what secrets the environment holds.
    """
    from torchlink.verify.early import head_start

    with head_start(arguments.libtorch, arguments.python, arguments.verify) as early:
        return prove(arguments, early)


def prove(arguments: VerifyArguments, early: HeadStart) -> int:
    """Verify while a loader may be starting already; returns the exit code."""
    from torchlink.verify.run import Hooks
    from torchlink.verify.run import verify as run

    linted = Linted(cpu=arguments.verify.plan.cpu_only)

    def meanwhile() -> None:
        """The loader is starting: import what the end needs, and lint the loader of a warm run."""
        import torchlink.report.verify  # noqa: F401 - for the import alone

        if early.session is not None:
            linted.of(early.session.loader)

    report = run(
        arguments.models,
        locate(arguments.libtorch, arguments.python),
        arguments.verify,
        hooks=Hooks(started=say, noted=notes, meanwhile=meanwhile, early=early.session),
    )
    if report.loader is not None:
        early.remember(report.loader.path)
    findings = None if report.loader is None else linted.of(report.loader.path, report.emulator)
    show(report, findings, as_json=arguments.json, verbose=arguments.verify.verbose)
    return max(report.exit_code, int(has_errors(findings)))


class Linted:
    """What lint says of the loader; asked twice, it looks once."""

    def __init__(self, *, cpu: bool) -> None:
        # Where the loader lies is torchlink's choice; what --cpu leaves out is the user's.
        self._ignored = ("rpath-absolute", "rpath-build-tree", *(("load-bearing-lost",) if cpu else ()))
        self._known: dict[Path, tuple[Finding, ...] | None] = {}

    def of(self, loader: Path, emulator: Emulator | None = None) -> tuple[Finding, ...] | None:
        """The findings, None where the loader cannot be read. It is for this machine and this libtorch alone."""
        from torchlink.errors import TorchlinkError
        from torchlink.lint.case import Wanted
        from torchlink.lint.judge import judge
        from torchlink.lint.rules import choose

        if loader not in self._known or emulator:
            wanted = Wanted(environment=emulator.environment) if emulator else None
            tree = emulator.tree if emulator else None
            try:
                rules = choose(ignore=self._ignored)
                self._known[loader] = judge(loader, wanted, rules=rules, tree=tree).findings
            except TorchlinkError:
                self._known[loader] = None
        return self._known[loader]


def has_errors(findings: tuple[Finding, ...] | None) -> bool:
    """Whether one of them is an error."""
    return any(finding.severity.value == "error" for finding in findings or ())


def show(
    report: VerifyReport, findings: tuple[Finding, ...] | None, *, as_json: bool, verbose: bool = False
) -> None:
    """Print the report; a single file that is no model is an error like any other command's."""
    from torchlink.report.verify import to_json, to_text

    if as_json:
        import json

        answer(json.dumps(to_json(report, findings), indent=2))
        return
    (first, *others) = report.models
    if first.error and first.error.exit_code == 2 and not others:
        raise first.error
    color = colored()
    print_text(to_text(report, findings, color=color, verbose=verbose), color=color, end="")


def say(sentence: str) -> None:
    """Tell whoever watches a terminal what takes so long."""
    import sys

    if sys.stderr.isatty():
        print_text(f"torchlink: {visible(sentence)} …", err=True)


COMMAND = Command(VerifyArguments, verify, EPILOG)
