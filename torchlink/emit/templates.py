"""Rendering of the files in `templates/`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from torchlink.paths import data_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def render(
    name: str, values: Mapping[str, object], filters: Mapping[str, Callable[..., str]] | None = None
) -> str:
    """Return the rendered text of a template, with its final newline.

    Args:
        name: path in `templates/`, for example `cmake/project/CMakeLists.txt.j2`.
        values: the variables of the template; an undefined one is an error.
        filters: the quoting functions of the template's syntax.
    """
    return _environment(data_dir("templates"), filters).get_template(name).render(values)


def render_file(file: Path, values: Mapping[str, object]) -> str:
    """Return the rendered text of a file that is a template of its own, with its final newline."""
    return _environment(file.parent, None).get_template(file.name).render(values)


def _environment(directory: Path, filters: Mapping[str, Callable[..., str]] | None) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(directory),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - build files, not HTML; each syntax has its own quoting filter
    )
    environment.filters["yaml"] = json.dumps  # a string of JSON is one of YAML
    environment.filters.update(filters or {})
    return environment
