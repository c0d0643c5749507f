"""A zoo of small TorchScript models of many kinds, and a description of one as the loader gives it.

Weights are seeded and tiny. `forward`'s arguments are what a reader of a model's file would not know.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(10, 16)
        self.fc2 = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.fc1(x)))


class CnnAdaptive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.bn = nn.BatchNorm2d(8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.pool(torch.relu(self.bn(self.conv(x)))), 1))


class Lenet(nn.Module):
    """No adaptive pooling: only 28x28 fits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 5)
        self.conv2 = nn.Conv2d(4, 6, 5)
        self.fc1 = nn.Linear(6 * 4 * 4, 12)
        self.fc2 = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = torch.max_pool2d(torch.relu(self.conv2(x)), 2)
        return torch.log_softmax(self.fc2(torch.relu(self.fc1(x.view(-1, 96)))), 1)


class OddSize(nn.Module):
    """Only 37x37 fits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, stride=2)
        )
        self.head = nn.Linear(4 * 8 * 8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


class Rectangle(nn.Module):
    """A spectrogram of 64 bands by 32 frames."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.fc = nn.Linear(2 * 32 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.max_pool2d(self.conv(x), 2).view(x.size(0), -1))


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image.permute(0, 3, 1, 2)).mean([2, 3])


class Unet(nn.Module):
    """Skip connections: sizes must be even."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, padding=1)
        self.inner = nn.Conv2d(4, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(self.down(x))
        b = self.up(self.inner(torch.max_pool2d(a, 2)))
        return torch.sigmoid(self.out(torch.cat([a, b], 1)))


class Conv1d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 4, 80, stride=16)

    def forward(self, wave: Tensor) -> Tensor:
        return self.conv(wave).mean(-1)


class Conv3d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3)
        self.fc = nn.Linear(2, 2)

    def forward(self, volume: Tensor) -> Tensor:
        return self.fc(self.conv(volume).amax([2, 3, 4]))


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 5, num_layers=2, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        return self.fc(y[:, -1])


class LstmState(nn.Module):
    """The state is the caller's."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 3)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        result: tuple[Tensor, tuple[Tensor, Tensor]] = self.lstm(x, state)
        return result


class Gru(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = self.gru(x)
        return result


class GruCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(4, 3)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.cell(x, h)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return self.attention(query, key, key)[0]


class TokenClassifier(nn.Module):
    """Tokens, a mask, and positions up to 6."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(20, 8)
        self.position = nn.Parameter(torch.randn(1, 6, 8))
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.norm(self.token(input_ids) + self.position)
        x = x.masked_fill(attention_mask.unsqueeze(-1) == 0, 0.0)
        return self.fc(x)


class Vit(nn.Module):
    """Patches, a class token and 17 positions: only 32x32 fits."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 8, stride=8)
        self.cls = nn.Parameter(torch.randn(1, 1, 8))
        self.position = nn.Parameter(torch.randn(1, 17, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(x.size(0), -1, -1), tokens], dim=1) + self.position
        return self.head(tokens[:, 0])


class Embedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.table(ids).sum(-1)


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(11, 4, mode="mean")
        self.fc = nn.Linear(4, 2)

    def forward(self, text: Tensor, offsets: Tensor) -> Tensor:
        return self.fc(self.bag(text, offsets))


class Recommender(nn.Module):
    """Two tables and dense features, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.user = nn.Embedding(5, 4)
        self.item = nn.Embedding(9, 4)
        self.fc = nn.Linear(4 + 4 + 3, 1)

    def forward(self, user: Tensor, item: Tensor, dense: Tensor) -> Tensor:
        return self.fc(torch.cat([self.user(user), self.item(item), dense], dim=-1))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(4, 3)
        self.right = nn.Linear(5, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.left(a) * self.right(b)


class Joined(nn.Module):
    """Two inputs that share one layer's width."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(9, 2)

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        return self.fc(torch.cat([state, action], 1))


class OptionalArgument(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.fc(x)
        if mask is not None:
            y = y * mask
        return y


class Defaults(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor, scale: float = 2.0, steps: int = 3, name: str = "n") -> Tensor:
        for _ in range(steps):
            x = x * scale
        return self.fc(x)


class TupleOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, int, Tensor]:
        return self.fc(x), 7, x


class ListOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = []
        for layer in self.layers:
            x = layer(x)
            outputs.append(x)
        return outputs


class DictOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.fc(x)
        return {"logits": y, "probabilities": torch.softmax(y, -1)}


class StringOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> str:
        return "high" if bool(self.fc(x).sum() > 0) else "low"


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


class NestedOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> dict[str, list[tuple[Tensor, float]]]:
        y = self.fc(x)
        return {"a": [(y, 0.5), (x, 1.5)], "b": [(y, 2.5)]}


class NamedTupleOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Pair:
        return Pair(self.fc(x), x)


class Integers(nn.Module):
    """int64 by what is done with it: bits."""

    def forward(self, x: Tensor) -> Tensor:
        return (x & 3) | (x << 1)


class Mask(nn.Module):
    """A bool tensor by its use as a condition."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, keep: Tensor, x: Tensor) -> Tensor:
        return torch.where(keep, self.fc(x), torch.zeros_like(x))


class Control(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 5)

    def forward(self, x: Tensor, rounds: int) -> Tensor:
        if x.dim() != 2:
            raise ValueError("expected a matrix")
        for _ in range(rounds):
            x = self.fc(x) if bool(x.sum() > 0) else -x
        return x


class Double(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


class Half(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 2).half())

    def forward(self, x: Tensor) -> Tensor:
        return x.matmul(self.weight)


class Bfloat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2).bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).float()


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.view_as_real(x @ self.weight)


class EmptyOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)[:0]


class NormFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class NormTraining(nn.Module):
    """Saved in training mode: a batch of one is refused."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.fc(x))


class ListIn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, images: list[Tensor]) -> list[Tensor]:
        return [self.conv(image.unsqueeze(0)).mean() for image in images]


class DictIn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, 2, 3)
        self.text = nn.Embedding(5, 2)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.image(batch["pixels"]).mean([2, 3]) + self.text(batch["ids"]).mean(1)


class TupleIn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        a, b = pair
        return self.fc(a) + b


class IntArgument(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 3)])

    def forward(self, x: Tensor, head: int, normalise: bool) -> Tensor:
        y = self.heads[0](x) if head == 0 else self.heads[1](x)
        return torch.softmax(y, -1) if normalise else y


class Mode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor, mode: str) -> Tensor:
        if mode == "logits":
            return self.fc(x)
        if mode == "probabilities":
            return torch.softmax(self.fc(x), -1)
        raise ValueError("no such mode")


class Preprocess(nn.Module):
    """Resizes and normalises images before the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1))
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.interpolate(x, size=[16, 16], mode="bilinear", align_corners=False)
        return self.conv((x - self.mean) / 0.2).mean()


class NoParameters(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.matmul(a, b) + 1


class Columns(nn.Module):
    """Two ranges of one input's columns go through two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 2)
        self.rest = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x[:, :3]) + self.rest(x[:, 3:])


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.dim() >= 0:
            raise ValueError("this model always refuses")
        return x


# name -> (the module, example inputs to trace it with; none: it is scripted)
Maker = Callable[[], nn.Module]
SCRIPTED: dict[str, Maker] = {
    "mlp": Mlp,
    "cnn_adaptive": CnnAdaptive,
    "lenet": Lenet,
    "odd_size": OddSize,
    "rectangle": Rectangle,
    "channels_last": ChannelsLast,
    "unet": Unet,
    "conv1d": Conv1d,
    "conv3d": Conv3d,
    "lstm": Lstm,
    "lstm_state": LstmState,
    "gru": Gru,
    "gru_cell": GruCell,
    "encoder": Encoder,
    "attention": Attention,
    "token_classifier": TokenClassifier,
    "vit": Vit,
    "embedding": Embedding,
    "bag": Bag,
    "recommender": Recommender,
    "two_inputs": TwoInputs,
    "joined": Joined,
    "optional_argument": OptionalArgument,
    "defaults": Defaults,
    "tuple_out": TupleOut,
    "list_out": ListOut,
    "dict_out": DictOut,
    "string_out": StringOut,
    "nested_out": NestedOut,
    "named_tuple_out": NamedTupleOut,
    "integers": Integers,
    "mask": Mask,
    "control": Control,
    "double": Double,
    "half": Half,
    "bfloat16": Bfloat,
    "complex": Complex,
    "empty_out": EmptyOut,
    "norm_first": NormFirst,
    "norm_training": NormTraining,
    "list_in": ListIn,
    "dict_in": DictIn,
    "tuple_in": TupleIn,
    "int_argument": IntArgument,
    "mode": Mode,
    "preprocess": Preprocess,
    "no_parameters": NoParameters,
    "columns": Columns,
}
TRACED: dict[str, tuple[Maker, tuple[Any, ...]]] = {
    "traced_mlp": (Mlp, (torch.ones(2, 10),)),
    "traced_lenet": (Lenet, (torch.ones(1, 1, 28, 28),)),
    "traced_lstm": (Lstm, (torch.ones(1, 3, 6),)),
    "traced_vit": (Vit, (torch.ones(1, 3, 32, 32),)),
    "traced_encoder": (Encoder, (torch.ones(1, 3, 8),)),
    "traced_embedding": (Embedding, (torch.ones(1, 3, dtype=torch.int64),)),
}
TRAINING = {"norm_training"}
# No input fits these.
REFUSING: dict[str, Maker] = {"raises": Raises}
NAMES = (*SCRIPTED, *TRACED, "frozen_cnn")


def build(name: str) -> torch.jit.ScriptModule:
    """One animal of the zoo, as TorchScript."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and tracing warns of every Python value
        if name == "frozen_cnn":
            return torch.jit.freeze(torch.jit.script(CnnAdaptive().eval()))
        if name in TRACED:
            maker, example = TRACED[name]
            return torch.jit.trace(maker().eval(), example, check_trace=False)
        module = {**SCRIPTED, **REFUSING}[name]()
        return torch.jit.script(module.train(name in TRAINING))


def make_zoo(directory: Path) -> dict[str, Path]:
    """Save every model of the zoo as `directory/<name>.pt`; the refusing ones too."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name in (*NAMES, *REFUSING):
        paths[name] = directory / f"{name}.pt"
        build(name).save(str(paths[name]))
    return paths


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
