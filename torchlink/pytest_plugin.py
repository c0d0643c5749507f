"""The pytest plugin (docs/pytest.md): `pytest --torchlink-model 'models/*.pt'`, one test a model.

pytest imports this module in each of its runs, in every environment that has torchlink: whatever else is needed is
imported when there is a model to verify.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from torchlink.cli.verify import VerifyArguments
    from torchlink.errors import TorchlinkError
    from torchlink.libtorch.facts import Libtorch
    from torchlink.verify.result import ModelResult
    from torchlink.verify.tables import ModelTables
    from torchlink.verify.tasks import ModelTask


MARKER = "torchlink_model"
SUFFIXES = (".pt", ".pth", ".ts", ".pt2", ".ptl")  # of files that `pytest FILE` takes for models
# Of --torchlink-args: the others say what is verified and where results go, which is pytest's affair here.
TAKEN = ("verify", "libtorch", "python", "config")


class VerifyModel(Protocol):
    """What the fixture `torchlink_verify` is."""

    def __call__(self, model: str | Path, *, check: bool = True, **options: Any) -> ModelResult:
        """Verify a model; the test fails where it is not ok, unless `check` is False."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options and settings."""
    group = parser.getgroup("torchlink", "verify models with torchlink")
    group.addoption(
        "--torchlink-model",
        action="append",
        default=[],
        metavar="PATH",
        help="verify a model, all in a directory or all that a quoted glob fits in C++, each as a test; repeatable",
    )
    group.addoption(
        "--torchlink-args",
        action="append",
        default=[],
        metavar="OPTIONS",
        help="options of `torchlink verify` for these models, in one string: '--against python --timeout 60'",
    )
    parser.addini(
        "torchlink_models", "models to verify where no test is named, from the rootdir on", "linelist"
    )
    parser.addini("torchlink_args", "options of `torchlink verify` before those of --torchlink-args", "args")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and make paths absolute: the processes of xdist need not have this directory."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(*paths, **options): run the test once for each of these models, verified with the options of "
        "`torchlink.verify`",
    )
    here = str(config.invocation_params.dir)
    config.option.torchlink_model = [
        os.path.join(here, path)  # noqa: PTH118 - a glob is text
        for path in config.option.torchlink_model
    ]


class Verification:
    """What all models of one run share."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @cached_property
    def arguments(self) -> VerifyArguments:
        """The options of `torchlink verify`.

        Raises:
            UsageError: they are no such options.
        """
        import shlex

        from torchlink.cli.plain import read
        from torchlink.cli.verify import COMMAND

        words = list(self._config.getini("torchlink_args"))
        try:
            words += [word for text in self._config.option.torchlink_args for word in shlex.split(text)]
        except ValueError as error:
            raise pytest.UsageError(f"--torchlink-args: {error}") from error
        found: VerifyArguments | None = read(COMMAND, words)
        defaults = COMMAND.arguments()
        if found is None:
            raise pytest.UsageError(
                f"--torchlink-args: {shlex.join(words)}: no options of `torchlink verify`; see its --help."
            )
        for name in found._fields:
            if name not in TAKEN and getattr(found, name) != getattr(defaults, name):
                raise pytest.UsageError(
                    f"--torchlink-args: {shlex.join(words)}: only options that say how a model is verified are taken, "
                    f"and {name} is none."
                )
        return found

    @cached_property
    def libtorch(self) -> Libtorch:
        """The one that the models are verified with.

        Raises:
            TorchlinkError: there is none.
        """
        import torchlink

        return torchlink.find(self.arguments.libtorch, self.arguments.python)

    @cached_property
    def tables(self) -> ModelTables:
        """What the settings have for models."""
        from torchlink.verify import tables

        return tables.load(self._config.invocation_params.dir, self.arguments.config)

    def tasks(self, paths: Iterable[str | Path]) -> list[ModelTask]:
        """The models that absolute paths name, each once.

        Raises:
            UsageError: one names nothing, or an option is wrong.
        """
        from torchlink.errors import TorchlinkError
        from torchlink.verify.tasks import gather

        try:
            found = gather(list(paths), self.arguments.verify, self.tables.adjusted, once=True)
        except TorchlinkError as error:
            raise pytest.UsageError(_told(error)) from error
        return list({os.path.abspath(task.path): task for task in found}.values())  # noqa: PTH100 - links differ

    def asked(self) -> list[ModelTask]:
        """The models of --torchlink-model, and those of the settings where no test is named."""
        paths: list[str] = list(self._config.option.torchlink_model)
        if self._config.args_source is not pytest.Config.ArgsSource.ARGS:
            root = str(self._config.rootpath)
            paths += [os.path.join(root, path) for path in self._config.getini("torchlink_models")]  # noqa: PTH118
        return self.tasks(paths) if paths else []

    def prove(self, task: ModelTask) -> ModelResult:
        """Verify one model.

        Raises:
            TorchlinkError: nothing can be verified here.
        """
        from torchlink.verify.verification import verify_tasks

        (result,) = verify_tasks([task], self.libtorch, self.arguments.verify, jobs=1).models
        return result


VERIFICATION = pytest.StashKey[Verification]()
ASKED = pytest.StashKey["list[ModelTask]"]()


def _verification(config: pytest.Config) -> Verification:
    if VERIFICATION not in config.stash:
        config.stash[VERIFICATION] = Verification(config)
    return config.stash[VERIFICATION]


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Look which models there are, before any test is looked for."""
    config = session.config
    if config.option.torchlink_model or config.getini("torchlink_models"):
        config.stash[ASKED] = _verification(config).asked()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Add the models behind the tests of the whole session: no argument has to name them."""
    report = yield
    if isinstance(collector, pytest.Session) and report.result is not None:
        for task in collector.config.stash.get(ASKED, []):
            path = Path(task.path)
            if not collector.isinitpath(path):  # else it is there already
                report.result.append(ModelCollector.from_parent(collector, path=path, task=task))
    return report


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Take a model that is named like a test: `pytest models/a.pt`."""
    if file_path.suffix in SUFFIXES and parent.session.isinitpath(file_path):
        (task,) = _verification(parent.config).tasks([file_path])
        return ModelCollector.from_parent(parent, path=file_path, task=task)
    return None


class ModelCollector(pytest.File):
    """A model's file, with the one test that it is."""

    def __init__(self, *, task: ModelTask, **others: Any) -> None:
        super().__init__(**others)
        self.task = task

    def collect(self) -> Iterable[pytest.Item]:
        """Return the test."""
        return [ModelItem.from_parent(self, name="verify")]


class ModelItem(pytest.Item):
    """The test that a model loads, runs and gives what is expected."""

    def __init__(self, **others: Any) -> None:
        super().__init__(**others)
        self.add_marker(MARKER)

    def runtest(self) -> None:
        """Verify it."""
        assert isinstance(self.parent, ModelCollector)  # for the type checker  # noqa: S101
        task = self.parent.task
        if task.skip:
            pytest.skip(task.skip)
        result = _verification(self.config).prove(task)
        if result.printed:
            self.add_report_section("call", "model", result.printed)
        self.user_properties += _properties(result)
        if not result.ok:
            raise NotOkError(_text(result, verbose=task.options.verbose))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the report of `torchlink verify` in place of a traceback."""
        from torchlink.errors import TorchlinkError

        if isinstance(excinfo.value, NotOkError):
            return str(excinfo.value)
        if isinstance(excinfo.value, TorchlinkError):
            return _told(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return what the head of a failure says."""
        return self.path, None, f"torchlink verify {self.parent.name if self.parent else self.name}"


class NotOkError(Exception):
    """A model is not ok."""


def _text(result: ModelResult, *, verbose: bool) -> str:
    """What is wrong with a model, its first line for pytest's summary."""
    from torchlink.report.verify import model_to_text
    from torchlink.shown import visible

    _, *lines = model_to_text(result, verbose=verbose).strip("\n").split("\n")
    return "\n".join([visible(result.error.message if result.error else ""), *lines])


def _told(error: TorchlinkError) -> str:
    """An error of torchlink's as its command prints it."""
    from torchlink.shown import visible

    return "\n".join(visible(line) for line in (error.message, *error.details, error.hint) if line)


def _properties(result: ModelResult) -> list[tuple[str, object]]:
    """What JUnit reports show of a test."""
    figures = {
        "device": result.device,
        "load_ms": result.load_ms,
        "forward_ms": result.forward_ms,
        "peak_rss_mb": result.peak_rss_mb,
        "max_abs_error": result.max_abs_error,
    }
    return [(f"torchlink.{name}", value) for name, value in figures.items() if value is not None]


@pytest.fixture(scope="session")
def torchlink_verify(pytestconfig: pytest.Config) -> VerifyModel:
    """Verify a model: `torchlink_verify("models/a.pt", inputs="float32[1,3]").outputs`.

    Takes the keyword arguments of `torchlink.verify`, paths from the rootdir on, and uses the libtorch of
    --torchlink-args. Returns the ModelResult; the test fails where it is not ok, unless `check=False`.
    """

    def verify(model: str | Path, *, check: bool = True, **options: Any) -> ModelResult:
        import torchlink

        common = _verification(pytestconfig)
        try:
            libtorch = options.pop("libtorch", None) or common.libtorch
            report = torchlink.verify(pytestconfig.rootpath / model, libtorch, **options)
        except torchlink.TorchlinkError as error:
            pytest.fail(_told(error), pytrace=False)
        if len(report.models) != 1:
            pytest.fail(f"{model} is {len(report.models)} models: name one.", pytrace=False)
        (result,) = report.models
        if check and not result.ok:
            pytest.fail(_text(result, verbose=bool(options.get("verbose"))), pytrace=False)
        return result

    return verify


@pytest.fixture
def torchlink_model(request: pytest.FixtureRequest, torchlink_verify: VerifyModel) -> ModelResult:
    """Return the result of the model that the marker `torchlink_model` names, which is ok."""
    if not hasattr(request, "param"):
        pytest.fail(f'Mark the test with @pytest.mark.{MARKER}("models/a.pt").', pytrace=False)
    task, options = request.param
    if task.skip:
        pytest.skip(task.skip)
    return torchlink_verify(task.path, **options)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have a test run once for each model that its markers name."""
    marks = list(metafunc.definition.iter_markers(MARKER))
    if not marks:
        return
    cases, names = [], []
    for mark in reversed(marks):
        if not mark.args:
            pytest.fail(f'Name a model: @pytest.mark.{MARKER}("models/a.pt").', pytrace=False)
        for task in _verification(metafunc.config).tasks(
            str(metafunc.config.rootpath / path) for path in _paths(mark.args)
        ):
            cases.append((task, mark.kwargs))
            names.append(os.path.relpath(task.path, metafunc.config.rootpath))
    if MARKER not in metafunc.fixturenames:
        metafunc.fixturenames.append(MARKER)
    metafunc.parametrize(MARKER, cases, indirect=True, ids=names)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Have a marked test use the fixture although it does not name it."""
    if (
        isinstance(item, pytest.Function)
        and item.get_closest_marker(MARKER)
        and MARKER not in item.fixturenames
    ):
        item.fixturenames.append(MARKER)


def _paths(given: Sequence[Any]) -> list[str]:
    return [os.fspath(path) for path in given]
