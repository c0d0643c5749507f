"""Writes docs/api.md from the docstrings of the public API: python tools/api_reference.py [--check]."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import torchlink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = Path(__file__).parent.parent / "docs" / "api.md"
RESULTS = (
    torchlink.Libtorch,
    torchlink.LinkPlan,
    torchlink.PlanLibrary,
    torchlink.VerifyReport,
    torchlink.BuiltLoader,
    torchlink.ModelResult,
    torchlink.TakenInput,
    torchlink.Output,
    torchlink.LintReport,
    torchlink.FileReport,
    torchlink.Finding,
    torchlink.Severity,
    torchlink.TorchlinkError,
)
SECTION = re.compile(r"(Args|Returns|Raises):$", re.MULTILINE)


def page() -> str:
    """The whole page."""
    parts = [
        "# Python API\n",
        "Written by `tools/api_reference.py` from the docstrings.\n",
        markdown(inspect.getdoc(torchlink)),
    ]
    parts += ["\n## Functions\n"]
    functions = (name for name in torchlink.__all__ if name.islower() and name != "__version__")
    parts += [function(name, getattr(torchlink, name)) for name in functions]
    parts += ["\n## What they return and raise\n"]
    parts += [result(each) for each in RESULTS]
    return "\n".join(parts).rstrip() + "\n"


def function(name: str, call: Callable[..., object]) -> str:
    """One function: its signature, what it does, arguments and errors as lists."""
    signature = inspect.signature(call)
    named = list(signature.parameters.values())
    parameters = [re.sub(r": '([^']*)'", r": \1", str(each)) for each in named]
    keywords = next((i for i, each in enumerate(named) if each.kind is each.KEYWORD_ONLY), None)
    if keywords is not None:
        parameters.insert(keywords, "*")
    listed = "".join(f"    {each},\n" for each in parameters)
    shape = f"{name}(\n{listed}) -> {signature.return_annotation}"
    return f"### `torchlink.{name}`\n\n```python\n{shape}\n```\n\n{markdown(inspect.getdoc(call))}"


def result(kind: type) -> str:
    """One class: its fields and properties with what the source says of each."""
    rows = "".join(
        f"- `{name}`: `{typed}`{'. ' + about if about else ''}\n" for name, typed, about in members(kind)
    )
    return f"### `torchlink.{kind.__name__}`\n\n{markdown(inspect.getdoc(kind))}\n{rows}"


def members(kind: type) -> Iterator[tuple[str, str, str]]:
    """Name, type and description of every public field and property, in the order of the source."""
    source = textwrap.dedent(inspect.getsource(kind))
    lines = source.splitlines()
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)  # for the type checker
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, ast.unparse(node.annotation), comment(lines, node)
        elif isinstance(node, ast.FunctionDef) and node.returns and not node.name.startswith("_"):
            about = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
            arguments = ", ".join(each.arg for each in node.args.args[1:])
            called = node.name if is_property(node) else f"{node.name}({arguments})"
            yield called, ast.unparse(node.returns), about


def is_property(node: ast.FunctionDef) -> bool:
    """Whether a method is read without being called."""
    return any(
        isinstance(each, ast.Name) and each.id in {"property", "cached_property"}
        for each in node.decorator_list
    )


def comment(lines: list[str], node: ast.AnnAssign) -> str:
    """The comment behind a field, else the one in the lines above it."""
    end = (node.end_lineno or node.lineno) - 1
    _, mark, behind = lines[end][node.end_col_offset or 0 :].partition("#")
    if mark:
        return behind.strip()
    above: list[str] = []
    for line in reversed(lines[: node.lineno - 1]):
        if not line.strip().startswith("#"):
            break
        above.insert(0, line.strip().lstrip("# "))
    return " ".join(above)


def markdown(docstring: str | None) -> str:
    """A docstring in Google's style: its sections become lists."""
    text = SECTION.sub(lambda found: f"**{found[1]}**\n", docstring or "")
    out: list[str] = []
    section = ""
    for line in text.splitlines():
        heading = re.fullmatch(r"\*\*(\w+)\*\*", line)
        section = heading[1] if heading else section
        entry = re.fullmatch(r"    (\w+): (.*)", line) if section in {"Args", "Raises"} else None
        if entry:
            out.append(f"- `{entry[1]}`: {entry[2]}")
        elif section in {"Args", "Raises"} and line.startswith("     "):
            out[-1] += f" {line.strip()}"
        elif section == "Returns":
            out.append(line.strip())
        else:
            out.append(line)
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv[1:]:
        sys.exit(
            None
            if PAGE.read_text(encoding="utf-8") == text
            else "docs/api.md is out of date: run tools/api_reference.py"
        )
    PAGE.write_text(text, encoding="utf-8")
