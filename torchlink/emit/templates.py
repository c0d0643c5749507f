"""Rendering of the files in `templates/`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from torchlink.paths import data_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def render(
    name: str, values: Mapping[str, object], filters: Mapping[str, Callable[..., str]] | None = None
) -> str:
    """Return the rendered text of a template, with its final newline.

    Args:
        name: path in `templates/`, for example `cmake/project/CMakeLists.txt.j2`.
        values: the variables of the template; an undefined one is an error.
        filters: the quoting functions of the template's syntax.
    """
    environment = Environment(
        loader=FileSystemLoader(data_dir("templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - build files, not HTML; each syntax has its own quoting filter
    )
    environment.filters.update(filters or {})
    return environment.get_template(name).render(values)
