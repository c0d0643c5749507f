"""A verification for programs of a CI: JUnit XML with one test case a model, and GitHub's annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.report.github import MESSAGE_LIMIT, PER_LEVEL, code, data, harmless, markdown, property_value
from torchlink.report.junit import attribute, document, element
from torchlink.report.plain import lines, located, plural, visible
from torchlink.report.verify import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torchlink.verify.result import ModelResult, VerifyReport


def junit(models: Sequence[ModelResult], properties: Sequence[tuple[str, str]] = ()) -> str:
    """A suite whose cases are the models: one that could not be looked at is an error, another that failed a failure.

    Args:
        models: in the order of the report.
        properties: names and values for the suite, such as the libtorch's version.
    """
    errors = sum(_is_error(model) for model in models)
    failures = sum(not model.ok for model in models) - errors
    skipped = sum(bool(model.skipped) for model in models)
    seconds = sum(map(_seconds, models))
    counts = f'tests="{len(models)}" failures="{failures}" errors="{errors}" skipped="{skipped}" time="{seconds:.3f}"'
    inner = "".join(
        f"      <property name={attribute(name)} value={attribute(value)}/>\n" for name, value in properties
    )
    body = f"    <properties>\n{inner}    </properties>\n" if inner else ""
    body += "".join(map(_case, models))
    return document(
        "torchlink verify", counts, f'  <testsuite name="torchlink verify" {counts}>\n{body}  </testsuite>\n'
    )


def _is_error(model: ModelResult) -> bool:
    return model.error is not None and model.error.exit_code == 2


def _seconds(model: ModelResult) -> float:
    """What all of it took; of a report without it, what loading and calling it took."""
    if model.seconds is not None:
        return model.seconds
    return sum(filter(None, (model.load_ms, model.forward_ms, *model.again_ms))) / 1000


def _case(model: ModelResult) -> str:
    inner = ""
    if model.skipped:
        inner += f"      <skipped message={attribute(model.skipped)}/>\n"
    if model.error is not None:
        tag = "error" if _is_error(model) else "failure"
        text = element(_block(model))
        about = f"type={attribute(model.error.code)} message={attribute(model.error.message)}"
        inner += f"      <{tag} {about}>{text}</{tag}>\n"
    if model.printed:
        inner += f"      <system-out>{element(lines(model.printed))}</system-out>\n"
    head = f'    <testcase classname="torchlink.verify" name={attribute(model.path)} time="{_seconds(model):.3f}"'
    return f"{head}>\n{inner}    </testcase>\n" if inner else f"{head}/>\n"


def _block(model: ModelResult) -> Iterator[str]:
    if model.error is None:
        return
    yield from lines(model.error.message)
    where = ", ".join(
        f"{name}: {value}" for name, value in (("stage", model.stage), ("signal", model.signal)) if value
    )
    if where:
        yield visible(where)
    yield from (visible(line) for line in model.error.details)
    if model.error.hint:
        yield from lines(f"-> {model.error.hint}")


def github_commands(models: Sequence[ModelResult], *, cwd: str, root: str) -> str:
    """Workflow commands for the first failed models, a log group with the rest; "" where none failed.

    Args:
        models: in the order of the report.
        cwd: the absolute directory that relative paths start from.
        root: the absolute directory of the checkout; files below it get its paths.
    """
    failed = [model for model in models if not model.ok]
    commands = []
    for model in failed[:PER_LEVEL]:
        message = "\n".join(_block(model))
        if len(message) > MESSAGE_LIMIT:
            message = message[: MESSAGE_LIMIT - 1] + "…"
        place = property_value(located(model.path, cwd, root))
        commands.append(f"::error file={place},title=torchlink verify::{data(message)}")
    rest = failed[PER_LEVEL:]
    if rest:
        commands.append(f"::group::{plural(len(rest), 'further failed model')}")
        commands += [harmless(f"{visible(model.path)}: {visible(str(model.error))}") for model in rest]
        commands.append("::endgroup::")
    return "".join(f"{command}\n" for command in commands)


def summary(report: VerifyReport) -> str:
    """The report as Markdown for the step's summary: the totals, and the models that failed or were skipped."""
    parts = [f"### torchlink verify: {markdown(counted(report.models, interrupted=report.interrupted))}\n\n"]
    notable = [model for model in report.models if model.skipped or not model.ok]
    if notable:
        parts.append("| model | | why |\n|---|---|---|\n")
    for model in notable[:1000]:
        what, why = ("skipped", model.skipped) if model.skipped else ("**failed**", str(model.error))
        parts.append(f"| {code(model.path)} | {what} | {markdown(' '.join(lines(why)))} |\n")
    return "".join(parts)
