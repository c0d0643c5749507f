"""Reading the loader's `described` event: the schema, graph and attributes of a model's `forward`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchlink.verify.graph import Argument, Description, PackedFact, TensorFact
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
    constants = tuple(_fact(value) for value in event.get("constants", ()))
    return Description(arguments, parse_graph(str(event.get("graph", "")), constants), attributes)


def _fact(value: Any) -> object:
    """An attribute's or constant's value: `{"dtype", "shape"}` is a tensor, `{"weights", …}` a packed object."""
    if isinstance(value, list):
        return tuple(map(_fact, value))
    if isinstance(value, dict) and "weights" in value:
        return PackedFact(
            tuple(_tensor(weight) for weight in value["weights"]),
            tuple(tuple(each) if isinstance(each, list) else each for each in value.get("numbers", ())),
            groups=int(value.get("groups", 0)),
            transpose=bool(value.get("transpose", False)),
        )
    return _tensor(value) if isinstance(value, dict) else value


def _tensor(value: Mapping[str, Any]) -> TensorFact:
    return TensorFact(str(value["dtype"]), tuple(int(size) for size in value["shape"]))
