"""Rendering of the files below `templates/`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from torchlink.paths import data_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def render(
    name: str, values: Mapping[str, object], filters: Mapping[str, Callable[..., str]] | None = None
) -> str:
    """The text of the template `name` (a path below `templates/`), with its final newline.

    Args:
        name: for example `cmake/project/CMakeLists.txt.j2`.
        values: what the template may name; a name that is missing here is an error, not an empty text.
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
