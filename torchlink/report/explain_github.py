"""An explanation for GitHub Actions: an annotation for each cause, and Markdown for the step summary."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.paths import page_address
from torchlink.report import explain_text
from torchlink.report.github import MESSAGE_LIMIT, PER_LEVEL, code, data, harmless, markdown, property_value
from torchlink.report.plain import located, visible
from torchlink.shown import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.errors import TorchlinkError
    from torchlink.explain.explanation import Explanation, Found
    from torchlink.explain.lines import Line

LONGEST_LINE = 500
# The place in the sources that a compiler's or CMake's line names.
_PLACE = re.compile(
    r"(?:^|\s)((?:[\w.+-]|/)[\w./+-]*\.\w+):(\d+)(?::\d+)?[: ]|^CMake Error at ([\w./+-]+):(\d+)"
)


def render(explanation: Explanation, *, cwd: str, root: str) -> str:
    """Return workflow commands for the first ten causes, then the explanation as text in a group.

    Args:
        explanation: what to show.
        cwd: the absolute directory that relative paths of the log start from.
        root: the absolute directory of the checkout: only files below it are annotated.
    """
    commands = [_command(found, cwd, root) for found in explanation.causes[:PER_LEVEL]]
    text = [harmless(visible(line)) for line in explain_text.render(explanation).splitlines()]
    if not commands:
        return "\n".join(text) + "\n"
    return "\n".join([*commands, "::group::torchlink explain", *text, "::endgroup::"]) + "\n"


def _command(found: Found, cwd: str, root: str) -> str:
    level = "error" if found.certainty == "certain" else "warning"
    place = next(filter(None, (_place(line, cwd, root) for line in found.evidence)), "")
    text = [
        f"{visible(explain_text.place(line))}: {shortened(visible(line.text.strip()), LONGEST_LINE)}"
        for line in found.evidence
    ]
    for fix in found.fixes[: found.fitting]:
        text += ["", visible(f"Fix: {fix.text}"), *map(visible, fix.command.strip().splitlines())]
    if found.page is not None:
        text += ["", page_address(found.page)]
    message = "\n".join(text)
    if len(message) > MESSAGE_LIMIT:
        message = message[: MESSAGE_LIMIT - 1] + "…"
    return harmless_inside(f"::{level} {place}title={property_value(found.cause.title)}::{data(message)}")


def failure(error: TorchlinkError) -> str:
    """Return the workflow command for a log that cannot be read."""
    text = "\n".join(filter(None, (visible(error.message), visible(error.hint))))
    return harmless_inside(f"::error title=torchlink explain::{data(text)}")


def harmless_inside(command: str) -> str:
    """Change what a runner would take for a command within the message of one."""
    return command.replace("##[", "## [")


def _place(line: Line, cwd: str, root: str) -> str:
    found = _PLACE.search(line.text[:LONGEST_LINE])
    if not found:
        return ""
    path = located(found[1] or found[3], cwd, root)
    if path.startswith("/"):
        return ""
    return f"file={property_value(path)},line={found[2] or found[4]},"


def render_summary(explanation: Explanation) -> str:
    """Return the explanation as Markdown for `$GITHUB_STEP_SUMMARY`."""
    return "".join(_sections(explanation))


def _sections(explanation: Explanation) -> Iterator[str]:
    yield "### torchlink explain\n\n"
    if not explanation.causes:
        yield f"{markdown(explain_text.render(explanation).splitlines()[0])}\n"
    for number, found in enumerate(explanation.causes, 1):
        page = page_address(found.page) if found.page is not None else ""
        title = markdown(found.cause.title)
        linked = f"[{title}]({page})" if "://" in page else title
        yield f"{number}. **{linked}** ({found.certainty})\n\n"
        for line in found.evidence:
            yield f"   {code(f'{explain_text.place(line)}: {shortened(line.text.strip(), LONGEST_LINE)}')}<br>\n"
        for fix in found.fixes[: found.fitting]:
            command = "<br>".join(code(each) for each in fix.command.strip().splitlines())
            yield f"\n   **Fix:** {markdown(fix.text)}{'<br>' if command else ''}{command}\n"
        if page and "://" not in page:
            yield f"\n   Page: {code(page)}\n"
        yield "\n"
