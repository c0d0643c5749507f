"""Write randomly initialised real architectures as model files, each in every form that it can take.

    python tools/architectures.py DIRECTORY [--only NAME,…] [--forms traced,scripted,frozen,quantized,aoti]

Needs torch, timm (with torchvision) and transformers. A form that an architecture cannot take (TorchScript does not
script it, it has no Linear to quantise, Inductor does not compile it) is printed with the reason and left out.
Inputs are saved beside each model as `NAME.inputs.npz`, for `torchlink verify --inputs`.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

FORMS = ("traced", "scripted", "frozen", "quantized", "aoti")
IMAGES = {
    "resnet": "resnet18",
    "vit": "vit_tiny_patch16_224",
    "deit": "deit_tiny_patch16_224",
    "swin": "swin_tiny_patch4_window7_224",
    "convnext": "convnext_atto",
    "efficientnet": "efficientnet_b0",
    "mobilenet": "mobilenetv3_small_100",
    "regnet": "regnety_002",
    "mixer": "mixer_s32_224",
    "densenet": "densenet121",
}


class First(nn.Module):  # type: ignore[misc]  # mypy does not follow torch
    """A model of `transformers` that returns its first output alone."""

    def __init__(self, model: nn.Module, argument: str) -> None:
        super().__init__()
        self.model = model
        self.argument = argument

    def forward(self, x: torch.Tensor) -> Any:
        """Call the model with its one argument."""
        return self.model(**{self.argument: x}, return_dict=False)[0]


class Causal(nn.Module):  # type: ignore[misc]  # mypy does not follow torch
    """A decoder of `transformers` with an explicit mask: the code that makes its own cannot be traced."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> Any:
        """Call the decoder with a causal mask."""
        length = tokens.shape[1]
        mask = torch.full((length, length), float("-inf")).triu(1)[None, None]
        return self.model(tokens, attention_mask=mask, return_dict=False)[0]


class Recurrent(nn.Module):  # type: ignore[misc]  # mypy does not follow torch
    """A recurrent layer with a linear head."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the head's values for every step."""
        return self.head(self.layer(x)[0])


def _image(name: str) -> tuple[nn.Module, torch.Tensor]:
    import timm

    return timm.create_model(name, pretrained=False), torch.randn(1, 3, 224, 224)


def _text(family: str) -> tuple[nn.Module, torch.Tensor]:
    import transformers as hf

    small = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 500,
    }
    made: dict[str, Callable[[], nn.Module]] = {
        "bert": lambda: hf.BertModel(hf.BertConfig(**small)),
        "roberta": lambda: hf.RobertaModel(hf.RobertaConfig(**small)),
        "electra": lambda: hf.ElectraModel(hf.ElectraConfig(**small, embedding_size=64)),
        "distilbert": lambda: hf.DistilBertModel(
            hf.DistilBertConfig(dim=64, n_layers=2, n_heads=4, hidden_dim=128, vocab_size=500)
        ),
        "gpt2": lambda: hf.GPT2Model(
            hf.GPT2Config(
                n_embd=64, n_layer=2, n_head=4, vocab_size=500, use_cache=False, attn_implementation="eager"
            )
        ),
        "t5-encoder": lambda: hf.T5EncoderModel(
            hf.T5Config(d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, vocab_size=500)
        ),
    }
    model = made[family]()
    wrapped = Causal(model) if family == "gpt2" else First(model, "input_ids")
    return wrapped, torch.randint(3, 400, (1, 12))


def _audio() -> tuple[nn.Module, torch.Tensor]:
    import transformers as hf

    config = hf.Wav2Vec2Config(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=40
    )
    return First(hf.Wav2Vec2Model(config), "input_values"), torch.randn(1, 4000)


def _clip() -> tuple[nn.Module, torch.Tensor]:
    import transformers as hf

    config = hf.CLIPVisionConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        image_size=64,
        patch_size=16,
    )
    return First(hf.CLIPVisionModel(config), "pixel_values"), torch.randn(1, 3, 64, 64)


ARCHITECTURES: dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {
    **{name: partial(_image, model) for name, model in IMAGES.items()},
    **{
        name: partial(_text, name)
        for name in ("bert", "roberta", "electra", "distilbert", "gpt2", "t5-encoder")
    },
    "wav2vec2": _audio,
    "clip-vision": _clip,
    "lstm": lambda: (Recurrent(nn.LSTM(8, 16, batch_first=True)), torch.randn(1, 6, 8)),
    "gru": lambda: (Recurrent(nn.GRU(8, 16, batch_first=True)), torch.randn(1, 6, 8)),
    "transformer": lambda: (
        nn.TransformerEncoder(
            nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2, enable_nested_tensor=False
        ),
        torch.randn(1, 6, 32),
    ),
}


def write(form: str, model: nn.Module, example: torch.Tensor, stem: Path) -> Path:
    """Save a model in one of `FORMS` and return its file.

    Raises:
        Exception: the model does not take this form.
    """
    if form == "aoti":
        file = stem.with_suffix(".pt2")
        exported = torch.export.export(model, (example,))
        torch._inductor.aoti_compile_and_package(exported, package_path=str(file))  # noqa: SLF001 - its public name
        return file
    file = stem.with_suffix(".pt")
    if form == "scripted":
        torch.jit.script(model).save(str(file))
        return file
    if form == "quantized":
        if not any(isinstance(module, nn.Linear) for module in model.modules()):
            raise TypeError("it has no Linear")
        model = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    traced = torch.jit.trace(model, example, check_trace=False, strict=False)
    if form == "frozen":
        traced = torch.jit.freeze(traced)
    traced.save(str(file))
    return file


def _stand_in_for_torchvision() -> torch.library.Library:
    """Declare torchvision's operators, so that importing it works beside a torch that it was not built for."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def main() -> int:
    """Write the files; return 1 where an architecture took no form at all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--only", default=",".join(ARCHITECTURES))
    parser.add_argument("--forms", default=",".join(FORMS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        kept = _stand_in_for_torchvision()  # noqa: F841 - it is undone with the object
    options.directory.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in options.only.split(","):
        torch.manual_seed(0)
        model, example = ARCHITECTURES[name]()
        model.eval()
        written = 0
        for form in options.forms.split(","):
            start = time.monotonic()
            try:
                with torch.no_grad():
                    file = write(form, model, example, options.directory / f"{name}-{form}")
            except Exception as error:  # noqa: BLE001 - what does not take a form says so in its own way
                reason = (str(error).strip().splitlines() or [""])[0]
                print(f"{name}-{form}: {type(error).__name__}: {reason[:150]}", flush=True)
                continue
            np.savez(options.directory / f"{file.stem}.inputs.npz", example.numpy())
            written += 1
            print(
                f"{file.name}: {file.stat().st_size >> 10} KiB, {time.monotonic() - start:.1f} s", flush=True
            )
        if not written:
            failed.append(name)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
