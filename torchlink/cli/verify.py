"""`torchlink verify`: check that the flags work: build a loader with them, load a model, call its forward."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Command, Option, Positional
from torchlink.cli.output import colored, flush, notes
from torchlink.cli.output import say as print_text
from torchlink.cli.planning import locate
from torchlink.cli.verify_output import ReportOutput
from torchlink.shown import visible
from torchlink.verify.options import DEFAULTS, VerifyOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.cli.progress import Display
    from torchlink.explain.explanation import Found
    from torchlink.lint.finding import Finding
    from torchlink.verify.head_start import HeadStart
    from torchlink.verify.remote.dispatch import Remote
    from torchlink.verify.result import ModelResult, VerifyReport

FEW = 5  # models that are shown with all their inputs and outputs
MOST_EXPLAINED = 50  # failed models whose cause is looked for
WIDEST = 60  # columns of a path in the table

EPILOG = """\b
Examples:
  torchlink verify
  torchlink verify model.pt
  torchlink verify model.pt --input 'float32[1,3,224,224]=randn:7' --input 3
  torchlink verify model.pt --input image.npy --input mask=none --expect expected.pt --rtol 1e-3
  torchlink verify model.pt --against python
  torchlink verify models/ --record golden   # then: --golden golden --libtorch OTHER
  torchlink verify model.pt --inputs batch.pt --save-outputs outputs.npz
  torchlink verify model.pt --method encode --input '[1, 2, 3]'
  torchlink verify model.pt --device cuda --json
  torchlink verify model.pt --bench --against python --html bench.html
  torchlink verify model.pt --bench --bench-batch x:0=1,8,32 --bench-threads 4
  torchlink verify model.pt --library libtorchvision.so
  torchlink verify model.pt --via cmake
  torchlink verify models/ 'more/**/*.pt' --timeout 60 --memory-limit 8G
  torchlink verify models/ -j 4 --quiet --junit verify.xml --github   # for CI
  torchlink verify models/ --resume run.jsonl   # continues where it was stopped
  torchlink verify models/ --executor dask=tcp://scheduler:8786
  torchlink verify models/ --shard 1/2 --json > a.json   # then: torchlink report merge a.json b.json

\b
Inputs:
  float32[1,3,224,224]        ones; also =zeros =arange =full:0.5 =rand:SEED =randn:SEED
  int64[1,16]=randint:0:100:7 random from 0 to 99; the generators are torchlink's own,
                              not those of torch.manual_seed(7)
  image.npy  batch.pt         the contents of a file: .npy .npz .pt .safetensors .json .png .jpg
                                (@FILE inside […])
  mask=bool[1,8]              the argument named mask
  '{"type":"tensor","data_type":"float32","shape":[2],"value":[1.5,"NaN"]}'
                              JSON; its other types are in docs/values.md
  3  0.5  true  none  'text'  a number, a bool, None, a string
  [float32[2,3], float32[2,3]]  (int64[1], 3)  {'mask': bool[1,8]}

Models: files; directories (their .pt, .pth, .ts, .pt2 and .ptl files, and those below); quoted globs. By default,
those of the [[model]] tables in torchlink.toml (pyproject.toml: [[tool.torchlink.model]]), else a bundled one.

\b
Exit code: 0 every model loaded, ran and gave what was expected; 1 one did not, or lint finds an error in
the loader; 2 a model could not be checked.
"""


class VerifyArguments(NamedTuple):
    """The command line of `torchlink verify`."""

    models: Annotated[
        tuple[Path, ...],
        Positional(
            "[MODEL]...",
            "TorchScript files, AOTInductor packages (.pt2) and libraries, directories, quoted globs. [default: those "
            "of torchlink.toml, else the bundled test model]",
        ),
    ] = ()
    verify: Annotated[VerifyOptions, options.VERIFY] = DEFAULTS
    libtorch: options.Libtorch = None
    python: options.Python = None
    jobs: Annotated[
        int | None,
        Option(
            "--jobs -j",
            "How many models to run at once. [default: as many as processors and memory allow]",
            metavar="N",
        ),
    ] = None
    executor: Annotated[
        str | None,
        Option(
            "--executor",
            "Run the models in the workers of a dask.distributed scheduler, or of the concurrent.futures.Executor that "
            "a function of yours returns.",
            metavar="dask=ADDRESS|MODULE:FACTORY",
            complete=options.offering("dask=tcp://"),
        ),
    ] = None
    executor_files: Annotated[
        str,
        Option(
            "--executor-files",
            "How workers get the models. shared: they read the same paths; send: they are sent the files.",
            metavar="shared|send",
            complete=options.offering("shared", "send"),
        ),
    ] = "shared"
    quiet: Annotated[
        bool, Option("--quiet -q", "With several models, print only those that failed, and the summary line.")
    ] = False
    json: options.Json = False
    jsonl: Annotated[
        str | None,
        Option("--jsonl", "Write one line of JSON per model as it finishes; - is stdout.", metavar="FILE|-"),
    ] = None
    junit: Annotated[
        Path | None, Option("--junit", "Also write JUnit XML, one test case per model.", metavar="FILE")
    ] = None
    html: Annotated[
        Path | None,
        Option("--html", "With --bench: also write an HTML page with the distributions.", metavar="FILE"),
    ] = None
    github: Annotated[
        bool, Option("--github", "Also print annotations for GitHub Actions, and write the step's summary.")
    ] = False
    shard: Annotated[
        str | None,
        Option(
            "--shard",
            "Verify only every N-th model, starting with the I-th; `torchlink report merge` combines the reports.",
            metavar="I/N",
        ),
    ] = None
    resume: Annotated[
        Path | None,
        Option(
            "--resume",
            "The --jsonl file of an earlier run: models in it that have not changed are not run again; results of the "
            "others are appended to it, or written to --jsonl.",
            metavar="FILE",
        ),
    ] = None
    config: Annotated[
        Path | None,
        Option(
            "--config",
            "The settings file. [default: torchlink.toml or pyproject.toml in this directory or one above]",
            metavar="FILE",
        ),
    ] = None


def verify(arguments: VerifyArguments) -> int:
    """Build a loader with the flags of `torchlink flags`, load models with it and call their forward.

    The loader is compiled once and cached. It runs without LD_LIBRARY_PATH and LD_PRELOAD, so what works here
    works in your own program, and with few other variables (docs/security.md), so that a model cannot read
    secrets from the environment.
    """
    from torchlink.verify.head_start import HeadStart, head_start

    if arguments.executor is not None:  # no loader runs here
        return prove(arguments, HeadStart("", None))
    with head_start(arguments.libtorch, arguments.python, arguments.verify) as early:
        return prove(arguments, early)


def prove(arguments: VerifyArguments, early: HeadStart) -> int:
    """Verify while a loader may be starting already; returns the exit code."""
    from torchlink.cli.progress import Display
    from torchlink.verify import tables
    from torchlink.verify.tasks import gather, is_several, parse_shard, shard_of
    from torchlink.verify.verification import Hooks, bundled, verify_tasks

    check_forms(arguments)
    part = parse_shard(arguments.shard) if arguments.shard is not None else None
    settled = tables.load(Path.cwd(), arguments.config)
    paths: Sequence[Path | str] = arguments.models or settled.paths
    origins = {} if arguments.models else settled.origins
    tasks = (
        gather(paths, arguments.verify, settled.adjusted, once=not arguments.models, origins=origins)
        if paths
        else []
    )
    libtorch = locate(arguments.libtorch, arguments.python)
    tasks = tasks or [bundled(libtorch, arguments.verify)]
    several = len(tasks) > FEW or is_several(paths)
    tasks, shard = shard_of(tasks, *part) if part else (tasks, None)
    if shard is not None and not tasks:
        notes([f"--shard {arguments.shard}: no models, because there are only {shard.models}."])
    if arguments.html is not None:
        from torchlink.cli.verify_output import check_page

        check_page(arguments.html, tasks, bench=arguments.verify.bench.bench, force=arguments.verify.force)
    linted = Linted(cpu=arguments.verify.plan.cpu_only)
    with Display() as display, ReportOutput(arguments, tasks, libtorch) as output:
        printer = VerifyPrinter(
            display,
            linted,
            output,
            verbose=arguments.verify.verbose,
            silent=output.silent,
            quiet=arguments.quiet,
            width=max((len(visible(task.path)) for task in tasks), default=0) if several else None,
        )
        report = verify_tasks(
            tasks,
            libtorch,
            arguments.verify,
            hooks=Hooks(
                printer.compiling,
                printer.begun,
                printer.ended,
                printer.finish,
                notes,
                printer.meanwhile,
                early.session,
            ),
            jobs=arguments.jobs,
            known=output.known,
            shard=shard,
            remote=remote_of(arguments),
        )
        if report.loader is not None:
            early.remember(report.loader.path)
        findings = linted.of(report)
        printer.finish(report)
    return max(report.exit_code, int(has_errors(findings)))


def remote_of(arguments: VerifyArguments) -> Remote | None:
    """Where the models are run, if not here.

    Raises:
        UsageError: --executor-files stands alone.
    """
    if arguments.executor is None:
        if arguments.executor_files != "shared":
            from torchlink.errors import UsageError

            raise UsageError(
                "--executor-files goes with --executor.", hint="Name one, such as dask=tcp://HOST:8786."
            )
        return None
    from torchlink.verify.remote.dispatch import Remote

    return Remote(arguments.executor, arguments.executor_files)


def check_forms(arguments: VerifyArguments) -> None:
    """Refuse two outputs on one stdout.

    Raises:
        UsageError: they cannot be combined.
    """
    from torchlink.errors import UsageError

    taken = [
        name
        for name, asked in (
            ("--json", arguments.json),
            ("--jsonl -", arguments.jsonl == "-"),
            ("--github", arguments.github),
        )
        if asked
    ]
    if len(taken) > 1:
        raise UsageError(f"{' and '.join(taken)} cannot be combined.", hint="Give only one of them.")


class Linted:
    """What lint finds in the loader, checked once."""

    def __init__(self, *, cpu: bool) -> None:
        # Where the loader is is torchlink's choice; what --cpu leaves out is the user's.
        self._ignored = ("rpath-absolute", "rpath-build-tree", *(("load-bearing-lost",) if cpu else ()))
        self._known: dict[Path, tuple[Finding, ...] | None] = {}

    def of(self, report: VerifyReport) -> tuple[Finding, ...] | None:
        """The findings, None if there is no loader to read. It is for this machine and this libtorch alone."""
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
        output: what else gets the results.
        verbose: show all lines of an exception's text.
        silent: print nothing for people.
        quiet: of several models print those that failed.
        width: columns for the path where each model is one line of a table; None: each is a block of lines.
    """

    def __init__(
        self,
        display: Display,
        linted: Linted,
        output: ReportOutput,
        *,
        verbose: bool,
        silent: bool,
        quiet: bool,
        width: int | None,
    ) -> None:
        self._display = display
        self._linted = linted
        self._output = output
        self._verbose = verbose
        self._silent = silent
        self._quiet = quiet
        self._width = width if width is None else min(width, WIDEST)
        self._color = colored()
        self._running: VerifyReport | None = None
        self._under_way: list[str] = []
        self._done = 0
        self._headed = False
        self._causes: dict[str, Found] = {}
        self._explained = 0

    def compiling(self, sentence: str) -> None:
        """The loader is being compiled."""
        self._display.show(sentence)
        if not self._display.watched:
            print_text(f"torchlink: {visible(sentence)} …", err=True)

    def begun(self, model: ModelResult, done: int, report: VerifyReport, count: int) -> None:
        """A model is being proved."""
        self._running = report
        self._under_way.append(model.path)
        self._show(done, count)

    def _show(self, done: int, count: int) -> None:
        """Show the model that has been under way for the longest."""
        if self._under_way:
            several = {"done": done, "total": count} if count > 1 else {}
            self._display.show(f"verifying {self._under_way[0]}", **several)

    def meanwhile(self) -> None:
        """Its loader is starting: import what the models and the end need, and lint the loader."""
        import torchlink.report.verify
        import torchlink.verify.guessing.search
        import torchlink.verify.model_run  # noqa: F401 - for the imports alone

        if self._running is not None:
            self._linted.of(self._running)

    def ended(self, number: int, model: ModelResult, report: VerifyReport, count: int) -> None:
        """A model is done."""
        self._display.hide()
        self._done += 1
        if model.path in self._under_way:
            self._under_way.remove(model.path)
        if model.error is not None and model.error.exit_code == 1 and self._explained < MOST_EXPLAINED:
            from torchlink.cli.causes import explain_error

            self._explained += 1
            found = explain_error(model.error, ("torchlink", "verify"))
            if found is not None:
                self._causes.setdefault(found.cause.id, found)
        self._output.add(number, model, report)
        self._print(model, report, count)
        self._show(self._done, count)

    def _print(self, model: ModelResult, report: VerifyReport, count: int) -> None:
        if self._silent or (count == 1 and not could_look(model)) or (self._quiet and count > 1 and model.ok):
            return
        from torchlink.report.verify import head, model_line, model_to_text, titles

        above = ""
        if not self._headed:
            self._headed = True
            above = head(report, self._linted.of(report), color=self._color)
            above += f"\n{titles(self._width)}\n" if self._width is not None else ""
        if self._width is None:
            below = model_to_text(model, color=self._color, verbose=self._verbose)
        else:
            below = model_line(model, self._width, color=self._color, verbose=self._verbose)
        print_text(above + below, color=self._color, end="")
        flush()

    def finish(self, report: VerifyReport) -> None:
        """All models are done, or none will be any more.

        Raises:
            TorchlinkError: a single one could not be looked at, which is an error like any other command's.
        """
        from torchlink.report.verify import tail

        self._display.hide()
        findings = self._linted.of(report)
        self._output.finish(report, findings)
        if self._silent:
            return
        models = report.models
        if len(models) == 1 and models[0].error and not could_look(models[0]) and not report.interrupted:
            raise models[0].error
        print_text(tail(report, findings, color=self._color), color=self._color, end="")
        if self._causes:
            from torchlink.cli.causes import print_cause

            flush()
            for found in self._causes.values():
                print_cause(found)


COMMAND = Command(VerifyArguments, verify, EPILOG)
