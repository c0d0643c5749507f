"""The kinds of file that are told apart, and what to do to get a TorchScript model from each."""

from __future__ import annotations

from typing import Literal

ModelKind = Literal[
    "torchscript",
    "aoti-package",
    "exported-program",
    "torch-package",
    "executorch",
    "module-pickle",
    "tensors",
    "state-dict",
    "checkpoint",
    "pickle",
    "tar",
    "torchserve",
    "zip",
    "truncated-zip",
    "safetensors",
    "onnx",
    "numpy",
    "shared-library",
    "compressed",
    "other-framework",
    "lfs-pointer",
    "web-page",
    "text",
    "zeros",
    "empty",
    "directory",
    "special",
    "unknown",
]

SCRIPT_IT = 'torch.jit.script(model.eval()).save("model.pt")'
LOAD_AND_SCRIPT = f"In Python: model = torch.load({{file}}, weights_only=False); {SCRIPT_IT}"
FETCH_AGAIN = "Copy or download it again, and compare the sizes."
NAME_A_MODEL = f"Name a model file; in Python, {SCRIPT_IT} writes one."

# {file} is the file's path as a Python literal, {path} as it was given.
REMEDIES: dict[str, str] = {
    "torchscript": "",
    "aoti-package": "Load it with torch::inductor::AOTIModelPackageLoader (headers since 2.6); "
    f"or save the original model with {SCRIPT_IT}",
    "exported-program": "In Python: program = torch.export.load({file}); "
    'torch.jit.trace(program.module(), example_inputs).save("model.pt")',
    "torch-package": "In Python: model = torch.package.PackageImporter({file}).load_pickle(PACKAGE, NAME) "
    f"with the names that it was saved under; {SCRIPT_IT}",
    "executorch": f"It is meant for ExecuTorch's runtime. Save the original model with {SCRIPT_IT}",
    "module-pickle": LOAD_AND_SCRIPT,
    "tensors": f"It holds tensors: give it to --expect, or to --input as @{{path}}. {NAME_A_MODEL}",
    "state-dict": "It holds the weights without the program. In Python: build the model, "
    f"model.load_state_dict(torch.load({{file}})); {SCRIPT_IT}",
    "checkpoint": "It holds weights among other things, and no program. In Python: build the model, "
    f"model.load_state_dict(torch.load({{file}})[KEY]); {SCRIPT_IT}",
    "pickle": LOAD_AND_SCRIPT,
    "tar": LOAD_AND_SCRIPT,
    "torchserve": "Unpack it with `unzip {path}` and name the .pt file inside.",
    "zip": "Unpack it with `unzip {path}` and name the model inside.",
    "truncated-zip": FETCH_AGAIN,
    "safetensors": "It holds weights without a program. In Python: build the model, "
    f"model.load_state_dict(safetensors.torch.load_file({{file}})); {SCRIPT_IT}",
    "onnx": f"Run it with ONNX Runtime, or save the original PyTorch model with {SCRIPT_IT}",
    "numpy": f"It holds arrays: give it to --expect or to --input as @{{path}}. {NAME_A_MODEL}",
    "shared-library": "A compiled model is loaded with torch::inductor::AOTIModelContainerRunnerCpu. "
    f"{NAME_A_MODEL}",
    "compressed": "Decompress it first.",
    "other-framework": f"Only PyTorch models can be loaded. {NAME_A_MODEL}",
    "lfs-pointer": "Fetch the file itself with `git lfs pull`.",
    "web-page": "The download gave a web page instead of the file: use the direct link to the file.",
    "text": NAME_A_MODEL,
    "zeros": FETCH_AGAIN,
    "empty": f"The save or the download did not finish. {FETCH_AGAIN}",
    "directory": f"Name the model file in it. {NAME_A_MODEL}",
    "special": NAME_A_MODEL,
    "unknown": NAME_A_MODEL,
}


def remedy(kind: ModelKind, path: str) -> str:
    """What to do about a file of this kind, as sentences."""
    return REMEDIES[kind].replace("{file}", repr(path)).replace("{path}", path)
