"""Small TorchScript models of many kinds, by name.

Weights are seeded and tiny. `forward`'s arguments are what a reader of a model's file would not know.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.models.arguments import (
    Bfloat,
    Columns,
    Complex,
    Control,
    Defaults,
    DictIn,
    Double,
    Half,
    IntArgument,
    Integers,
    Joined,
    ListIn,
    Mode,
    NoParameters,
    OptionalArgument,
    Raises,
    Recommender,
    TupleIn,
    TwoInputs,
)
from tests.models.images import (
    ChannelsLast,
    CnnAdaptive,
    Conv3d,
    Lenet,
    NormFirst,
    NormTraining,
    OddSize,
    Preprocess,
    Rectangle,
    Unet,
    Vit,
)
from tests.models.results import DictOut, EmptyOut, ListOut, NamedTupleOut, NestedOut, StringOut, TupleOut
from tests.models.sequences import (
    Attention,
    Bag,
    Conv1d,
    Embedding,
    Encoder,
    Gru,
    GruCell,
    Lstm,
    LstmState,
    Mask,
    TokenClassifier,
)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(10, 16)
        self.fc2 = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.fc1(x)))


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
    """One of the models, as TorchScript."""
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
