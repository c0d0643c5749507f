"""`torchlink verify`: prove that the flags work: build a loader with them, load a model, call its forward."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Command, Positional
from torchlink.cli.output import answer, colored, flush, notes
from torchlink.cli.output import say as print_text
from torchlink.cli.planning import locate
from torchlink.shown import visible
from torchlink.verify.options import DEFAULTS, VerifyOptions

if TYPE_CHECKING:
    from torchlink.cli.progress import Display
    from torchlink.lint.finding import Finding
    from torchlink.verify.result import ModelResult, VerifyReport
    from torchlink.verify.session import HeadStart


EPILOG = """\b
Examples:
  torchlink verify
  torchlink verify model.pt
  torchlink verify model.pt --input 'float32[1,3,224,224]=randn:7' --input 3
  torchlink verify model.pt --input image.npy --input mask=none --expect expected.pt --rtol 1e-3
  torchlink verify model.pt --inputs batch.pt --save-outputs outputs.npz
  torchlink verify model.pt --method encode --input '[1, 2, 3]'
  torchlink verify model.pt --device cuda --json
  torchlink verify model.pt --library libtorchvision.so
  torchlink verify model.pt --via cmake
  torchlink verify *.pt --timeout 60   # for CI: 60 s for each model

\b
Inputs:
  float32[1,3,224,224]        ones; also =zeros =arange =full:0.5 =rand:SEED =randn:SEED
  int64[1,16]=randint:0:100:7 drawn from 0 up to 99; the random streams are torchlink's own,
                              not those of torch.manual_seed(7)
  image.npy  batch.pt         what a file holds: .npy .npz .pt .safetensors .json (@FILE inside of […])
  mask=bool[1,8]              the argument of that name
  '{"type":"tensor","data_type":"float32","shape":[2],"value":[1.5,"NaN"]}'
                              JSON; its other types are in docs/values.md
  3  0.5  true  none  'text'  a number, a bool, None, a string
  [float32[2,3], float32[2,3]]  (int64[1], 3)  {'mask': bool[1,8]}

Exit code: 0 every model loaded, ran and gave what was expected; 1 one did not, or lint finds an error in
the loader; 2 it could not be looked at.
"""


class VerifyArguments(NamedTuple):
    """The command line of `torchlink verify`."""

    models: Annotated[
        tuple[Path, ...],
        Positional(
            "[MODEL]...",
            "TorchScript files, AOTInductor packages (.pt2) and libraries; the bundled test model where none is named.",
        ),
    ] = ()
    verify: Annotated[VerifyOptions, options.VERIFY] = DEFAULTS
    libtorch: options.Libtorch = None
    python: options.Python = None
    json: options.Json = False


def verify(arguments: VerifyArguments) -> int:
    """Build a loader with the flags of `torchlink flags`, load models with it and call their forward.

    The loader is compiled once and kept. It runs without LD_LIBRARY_PATH and LD_PRELOAD, so what works here
    works in a program of yours, and with few other variables (docs/security.md), so that a model cannot
    read what secrets the environment holds.
    """
    from torchlink.verify.session import head_start

    with head_start(arguments.libtorch, arguments.python, arguments.verify) as early:
        return prove(arguments, early)


def prove(arguments: VerifyArguments, early: HeadStart) -> int:
    """Verify while a loader may be starting already; returns the exit code."""
    from torchlink.cli.progress import Display
    from torchlink.verify.verification import Hooks
    from torchlink.verify.verification import verify as run

    linted = Linted(cpu=arguments.verify.plan.cpu_only)
    with Display() as display:
        telling = VerifyPrinter(display, linted, verbose=arguments.verify.verbose, quiet=arguments.json)
        report = run(
            arguments.models,
            locate(arguments.libtorch, arguments.python),
            arguments.verify,
            hooks=Hooks(
                telling.compiling, telling.begun, telling.ended, notes, telling.meanwhile, early.session
            ),
        )
    if report.loader is not None:
        early.remember(report.loader.path)
    findings = linted.of(report)
    telling.finish(report)
    return max(report.exit_code, int(has_errors(findings)))


class Linted:
    """What lint says of the loader; asked twice, it looks once."""

    def __init__(self, *, cpu: bool) -> None:
        # Where the loader is is torchlink's choice; what --cpu leaves out is the user's.
        self._ignored = ("rpath-absolute", "rpath-build-tree", *(("load-bearing-lost",) if cpu else ()))
        self._known: dict[Path, tuple[Finding, ...] | None] = {}

    def of(self, report: VerifyReport) -> tuple[Finding, ...] | None:
        """The findings, None where there is no loader to read. It is for this machine and this libtorch alone."""
        from torchlink.errors import ResourcesError, TorchlinkError
        from torchlink.lint.checking import check_binary
        from torchlink.lint.context import LintOptions
        from torchlink.lint.rules import choose

        if report.loader is None:
            return None
        loader, emulator = report.loader.path, report.emulator
        if loader not in self._known:
            wanted = LintOptions(environment=emulator.environment) if emulator else None
            tree = emulator.tree if emulator else None
            rules = choose(ignore=self._ignored)
            try:
                self._known[loader] = check_binary(loader, wanted, rules=rules, tree=tree).findings
            except ResourcesError:
                raise
            except TorchlinkError:
                self._known[loader] = None
        return self._known[loader]


def has_errors(findings: tuple[Finding, ...] | None) -> bool:
    """Whether one of them is an error."""
    return any(finding.severity.value == "error" for finding in findings or ())


def could_look(model: ModelResult) -> bool:
    """Whether there is more to show of a model than why it could not be looked at."""
    return model.error is None or model.error.exit_code != 2


class VerifyPrinter:
    """What is printed of a verification, each part as soon as it is known.

    Args:
        display: shows what is under way.
        linted: what lint says of the loader.
        verbose: show all lines of an exception's text.
        quiet: print JSON at the end, and nothing before.
    """

    def __init__(self, display: Display, linted: Linted, *, verbose: bool, quiet: bool) -> None:
        self._display = display
        self._linted = linted
        self._verbose = verbose
        self._quiet = quiet
        self._color = colored()
        self._running: VerifyReport | None = None

    def compiling(self, sentence: str) -> None:
        """The loader is being compiled."""
        self._display.show(sentence)
        if not self._display.watched:
            print_text(f"torchlink: {visible(sentence)} …", err=True)

    def begun(self, model: ModelResult, report: VerifyReport, count: int) -> None:
        """A model is being proved."""
        self._running = report
        several = {"done": len(report.models), "total": count} if count > 1 else {}
        self._display.show(f"verifying {model.path}", **several)

    def meanwhile(self) -> None:
        """Its loader is starting: import what the end needs, and lint the loader."""
        import torchlink.report.verify  # noqa: F401 - for the import alone

        if self._running is not None:
            self._linted.of(self._running)

    def ended(self, model: ModelResult, report: VerifyReport, count: int) -> None:
        """A model is done."""
        self._display.hide()
        if self._quiet or (count == 1 and not could_look(model)):
            return
        from torchlink.report.verify import head, model_to_text

        above = head(report, self._linted.of(report), color=self._color) if len(report.models) == 1 else ""
        below = model_to_text(model, color=self._color, verbose=self._verbose)
        print_text(above + below, color=self._color, end="")
        flush()

    def finish(self, report: VerifyReport) -> None:
        """All models are done; a single one that could not be looked at is an error like any other command's."""
        from torchlink.report.verify import tail, to_json

        findings = self._linted.of(report)
        if self._quiet:
            from json import dumps

            answer(dumps(to_json(report, findings), indent=2))
            return
        (first, *others) = report.models
        if first.error and not others and not could_look(first):
            raise first.error
        print_text(tail(report, findings, color=self._color), color=self._color, end="")


COMMAND = Command(VerifyArguments, verify, EPILOG)
