"""Reading the loader's `described` event: the schema, graph and attributes of a model's `forward`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchlink.verify.graph import Argument, Description, TensorFact
from torchlink.verify.graph_text import parse_graph

if TYPE_CHECKING:
    from collections.abc import Mapping


def parse_description(event: Mapping[str, Any]) -> Description:
    """The description in the loader's `described` event, as parsed from JSON.

    The module itself is not among the arguments of `event["schema"]`. `event["graph"]` is the inlined graph in
    TorchScript's own notation.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the event is not of that form.
    """
    arguments = tuple(
        Argument(
            str(entry["name"]),
            str(entry["type"]),
            bool(entry.get("has_default", False)),
            entry.get("default"),
            bool(entry.get("kwarg_only", False)),
        )
        for entry in event["schema"]["arguments"]
    )
    attributes = {str(path): _fact(value) for path, value in event.get("attributes", {}).items()}
    return Description(arguments, parse_graph(str(event.get("graph", ""))), attributes)


def _fact(value: Any) -> object:
    """An attribute's value: `{"dtype", "shape"}` is a tensor."""
    if isinstance(value, dict):
        return TensorFact(str(value["dtype"]), tuple(int(size) for size in value["shape"]))
    return value
