"""What the loader says about a model, worked out by torch itself."""

from typing import Any

import torch
from torch import Tensor


def describe(module: torch.jit.ScriptModule) -> dict[str, Any]:
    """The `described` event that the loader writes for this module."""
    method = module._c._get_method("forward")
    graph = method.graph.copy()
    torch._C._jit_pass_inline(graph)
    torch._C._jit_pass_peephole(graph, True)
    torch._C._jit_pass_constant_propagation_immutable_types(graph)
    torch._C._jit_pass_constant_pooling(graph)
    attributes: dict[str, Any] = {}
    for path, value in [*module.named_parameters(), *module.named_buffers()]:
        attributes[path] = _fact(value)
    _plain_attributes(graph, {next(graph.inputs()).debugName(): (module, "")}, attributes)
    arguments = [
        {
            "name": argument.name,
            "type": argument.type.annotation_str,
            "has_default": argument.has_default_value(),
            "default": str(argument.default_value) if argument.has_default_value() else None,
            "kwarg_only": argument.kwarg_only,
        }
        for argument in method.schema.arguments[1:]
    ]
    return {
        "event": "described",
        "schema": {"name": "forward", "arguments": arguments},
        "graph": graph.str(False),
        "attributes": attributes,
    }


def _plain_attributes(block: Any, modules: dict[str, tuple[Any, str]], found: dict[str, Any]) -> None:
    """The numbers, bools and strings among the attributes that a graph reads."""
    for node in block.nodes():
        if node.kind() == "prim::GetAttr":
            owner, prefix = modules[node.inputsAt(0).debugName()]
            value, path = getattr(owner, node.s("name")), f"{prefix}{node.s('name')}"
            if isinstance(value, torch.jit.ScriptModule):
                modules[node.output().debugName()] = (value, f"{path}.")
            elif isinstance(value, (Tensor, bool, int, float, str)):
                found[path] = _fact(value)
        for inner in node.blocks():
            _plain_attributes(inner, modules, found)


def _fact(value: Any) -> Any:
    """A tensor's dtype and shape; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    return {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}
