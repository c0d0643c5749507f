"""`torchlink verify`: prove that the words work: build a loader with them, load a model, call its forward."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torchlink.cli.options import JsonOption, LibtorchOption, PythonOption, offering
from torchlink.cli.output import answer, flush, notes
from torchlink.cli.output import say as print_text
from torchlink.cli.plan_options import (
    CompilerOption,
    CpuOption,
    HeadersOption,
    StdOption,
)
from torchlink.cli.planning import locate
from torchlink.shown import visible

if TYPE_CHECKING:
    from torchlink.cli.progress import Display
    from torchlink.lint.finding import Finding
    from torchlink.verify.result import ModelResult, VerifyReport

app = typer.Typer(add_completion=False, rich_markup_mode=None)

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
InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="VALUE",
        help="One argument of forward; repeat it for each, in order. Without any the model tells.",
    ),
]
ExpectOption = Annotated[
    Path | None,
    typer.Option(
        "--expect", metavar="FILE", help="The tensors that forward should return, as .pt, .npy or .npz."
    ),
]
EnvOption = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        metavar="NAME[=VALUE]",
        help="An environment variable that the loader is given besides PATH, HOME, the locale and those of OpenMP, "
        "MKL, CUDA and torch; may be repeated.",
    ),
]
LibraryOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--library",
        metavar="LIB.so",
        help="A library of operators that the model uses, loaded before it; may be repeated.",
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="cpu|cuda|auto",
        autocompletion=offering("cpu", "cuda", "auto"),
        help="Where to run; auto: CUDA where it is usable.",
    ),
]
ViaOption = Annotated[
    str,
    typer.Option(
        "--via",
        metavar="cxx|cmake|nim",
        autocompletion=offering("cxx", "cmake", "nim"),
        help="cxx: by the compiler with the words of `torchlink flags`; cmake, nim: through the project that "
        "`torchlink cmake init` or `torchlink nim init` writes.",
    ),
]


@app.command(epilog=EPILOG)
def verify(
    *,
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="TorchScript files; a tiny one that torchlink carries where none is named.",
        ),
    ] = None,
    inputs: InputOption = None,
    expect: ExpectOption = None,
    atol: Annotated[float, typer.Option("--atol", help="Absolute tolerance of --expect.")] = 1e-5,
    rtol: Annotated[float, typer.Option("--rtol", help="Relative tolerance of --expect.")] = 1e-4,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            help="Stop a model that is not through by then; no limit otherwise.",
        ),
    ] = None,
    library: LibraryOption = None,
    device: DeviceOption = "cpu",
    env: EnvOption = None,
    via: ViaOption = "cxx",
    libtorch: LibtorchOption = None,
    python: PythonOption = None,
    cpu: CpuOption = False,
    headers: HeadersOption = "system",
    std: StdOption = None,
    compiler: CompilerOption = None,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Show all lines of what a failing model's libtorch says.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Build a loader with the words of `torchlink flags`, load models with it and call their forward.

    The loader is compiled once and kept. It runs without LD_LIBRARY_PATH and LD_PRELOAD, so what works here
    works in a program of yours, and with few other variables (docs/security.md), so that a model cannot
    read what secrets the environment holds.
    """
    from torchlink.cli.progress import Display
    from torchlink.plan import Wishes
    from torchlink.verify.early import current
    from torchlink.verify.run import Hooks
    from torchlink.verify.run import verify as prove

    head_start = current()
    linted = Linted(cpu=cpu)
    with Display() as display:
        telling = Telling(display, linted, verbose=verbose, quiet=json)
        report = prove(
            models or (),
            locate(libtorch, python),
            device=device,
            inputs=inputs,
            expect=expect,
            atol=atol,
            rtol=rtol,
            timeout=timeout,
            libraries=library or (),
            via=via,
            wishes=Wishes(cpu_only=cpu, headers=headers, cxx_standard=std),
            compiler=compiler,
            env=env or (),
            verbose=verbose,
            hooks=Hooks(
                telling.compiling, telling.begun, telling.ended, notes, telling.meanwhile, head_start.session
            ),
        )
    if report.loader is not None:
        head_start.remember(report.loader.path)
    findings = linted.of(report)
    telling.finish(report)
    raise typer.Exit(max(report.exit_code, int(has_errors(findings))))


class Linted:
    """What lint says of the loader; asked twice, it looks once."""

    def __init__(self, *, cpu: bool) -> None:
        # Where the loader lies is torchlink's choice; what --cpu leaves out is the user's.
        self._ignored = ("rpath-absolute", "rpath-build-tree", *(("load-bearing-lost",) if cpu else ()))
        self._known: dict[Path, tuple[Finding, ...] | None] = {}

    def of(self, report: VerifyReport) -> tuple[Finding, ...] | None:
        """The findings, None where there is no loader to read. It is for this machine and this libtorch alone."""
        from torchlink.errors import ResourcesError, TorchlinkError
        from torchlink.lint.case import Wanted
        from torchlink.lint.judge import judge
        from torchlink.lint.rules import choose

        if report.loader is None:
            return None
        loader, emulator = report.loader.path, report.emulator
        if loader not in self._known:
            wanted = Wanted(environment=emulator.environment) if emulator else None
            tree = emulator.tree if emulator else None
            rules = choose(ignore=self._ignored)
            try:
                self._known[loader] = judge(loader, wanted, rules=rules, tree=tree).findings
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


class Telling:
    """What is printed of a verification, each part as soon as it is known.

    Args:
        display: shows what is under way.
        linted: what lint says of the loader.
        verbose: show all lines of an exception's text.
        quiet: print JSON at the end, and nothing before.
    """

    def __init__(self, display: Display, linted: Linted, *, verbose: bool, quiet: bool) -> None:
        from torchlink.report.ansi import wanted

        self._display = display
        self._linted = linted
        self._verbose = verbose
        self._quiet = quiet
        self._color = wanted(sys.stdout, os.environ)
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
