"""`torchlink verify`: prove that the words work: build a loader with them, load a model, call its forward."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torchlink.cli.options import JsonOption, LibtorchOption, PythonOption, offering
from torchlink.cli.output import answer, notes
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
    from torchlink.lint.finding import Finding
    from torchlink.toolchain.emulator import Emulator
    from torchlink.verify.result import VerifyReport

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
    from torchlink.plan import Wishes
    from torchlink.verify.early import current
    from torchlink.verify.run import Hooks
    from torchlink.verify.run import verify as prove

    head_start = current()
    linted = Linted(cpu=cpu)

    def meanwhile() -> None:
        """The loader is starting: import what the end needs, and lint the loader of a warm run."""
        import torchlink.report.verify  # noqa: F401 - for the import alone

        if head_start.session is not None:
            linted.of(head_start.session.loader)

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
        hooks=Hooks(started=say, noted=notes, meanwhile=meanwhile, early=head_start.session),
    )
    if report.loader is not None:
        head_start.remember(report.loader.path)
    findings = None if report.loader is None else linted.of(report.loader.path, report.emulator)
    show(report, findings, as_json=json, verbose=verbose)
    raise typer.Exit(max(report.exit_code, int(has_errors(findings))))


class Linted:
    """What lint says of the loader; asked twice, it looks once."""

    def __init__(self, *, cpu: bool) -> None:
        # Where the loader lies is torchlink's choice; what --cpu leaves out is the user's.
        self._ignored = ("rpath-absolute", "rpath-build-tree", *(("load-bearing-lost",) if cpu else ()))
        self._known: dict[Path, tuple[Finding, ...] | None] = {}

    def of(self, loader: Path, emulator: Emulator | None = None) -> tuple[Finding, ...] | None:
        """The findings, None where the loader cannot be read. It is for this machine and this libtorch alone."""
        from torchlink.errors import ResourcesError, TorchlinkError
        from torchlink.lint.case import Wanted
        from torchlink.lint.judge import judge
        from torchlink.lint.rules import choose

        if loader not in self._known or emulator:
            wanted = Wanted(environment=emulator.environment) if emulator else None
            tree = emulator.tree if emulator else None
            try:
                rules = choose(ignore=self._ignored)
                self._known[loader] = judge(loader, wanted, rules=rules, tree=tree).findings
            except ResourcesError:
                raise
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
    import os
    import sys

    from torchlink.report.ansi import wanted

    color = wanted(sys.stdout, os.environ)
    print_text(to_text(report, findings, color=color, verbose=verbose), color=color, end="")


def say(sentence: str) -> None:
    """Tell whoever watches a terminal what takes so long."""
    import sys

    if sys.stderr.isatty():
        print_text(f"torchlink: {visible(sentence)} …", err=True)
