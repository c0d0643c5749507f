"""Models that use operators or classes which libtorch itself does not have: which library brings them."""

from __future__ import annotations

import re

from torchlink.errors import ForwardFailedError

OPERATOR = re.compile(r"Unknown builtin op: (?P<namespace>\w+)::(?P<name>[\w.]+\w)")
CLASS = re.compile(r"__torch__\.torch\.classes\.(?P<namespace>\w+)\.(?P<name>\w+)")
UNKNOWN_CLASS = re.compile(
    r"Unknown type name|Can't find class|class.* not (found|registered)", re.IGNORECASE
)
# The libraries that register the operators of well-known packages, as those packages install them.
LIBRARIES = {
    "torchvision": "torchvision/_C.so of the torchvision package, or libtorchvision.so",
    "image": "torchvision/image.so of the torchvision package",
    "torchaudio": "torchaudio/lib/_torchaudio.so of the torchaudio package",
    "torchtext": "torchtext/lib/libtorchtext.so of the torchtext package",
    "torch_scatter": "torch_scatter/_*_cpu.so of the torch-scatter package",
    "torch_sparse": "torch_sparse/_*_cpu.so of the torch-sparse package",
    "torch_cluster": "torch_cluster/_*_cpu.so of the torch-cluster package",
    "torch_spline_conv": "torch_spline_conv/_*_cpu.so of the torch-spline-conv package",
    "pyg": "libpyg.so of the pyg-lib package",
    "fbgemm": "fbgemm_gpu/fbgemm_gpu_py.so of the fbgemm-gpu package",
    "tensorrt": "torch_tensorrt/lib/libtorchtrt_runtime.so of the torch-tensorrt package",
    "torch_ipex": "libintel-ext-pt-cpu.so of the intel-extension-for-pytorch package",
}
# Namespaces of libtorch itself: what is not there is newer than it, or was left out when it was built.
OWN = frozenset(
    ("aten", "prim", "prims", "quantized", "_quantized", "onednn", "mkldnn", "inductor", "static_runtime")
)
XNNPACK = frozenset(("prepacked", "xnnpack"))


def unknown_operator(message: str) -> ForwardFailedError | None:
    """The error for a model that cannot be loaded because of an operator or class that is not there; None for others.

    Args:
        message: the text of the exception.
    """
    found, what = OPERATOR.search(message), "operator"
    if found is None and UNKNOWN_CLASS.search(message):
        found, what = CLASS.search(message), "class"
    if found is None:
        return None
    namespace, name = found["namespace"], f"{found['namespace']}::{found['name']}"
    details = tuple(line for line in message.splitlines() if line.strip())
    if namespace in OWN:
        return ForwardFailedError(
            f"The model uses the {what} {name}, which this libtorch does not have.",
            hint="A model saved by a newer torch needs a libtorch at least as new: name another with --libtorch.",
            details=details,
        )
    if namespace in XNNPACK:
        return ForwardFailedError(
            f"The model uses the {what} {name} of XNNPACK, and this libtorch was built without it.",
            hint="Save the model before optimize_for_mobile, or name a libtorch built with XNNPACK with --libtorch.",
            details=details,
        )
    brings = LIBRARIES.get(namespace)
    return ForwardFailedError(
        f"The model uses the {what} {name}, which is not part of libtorch: "
        + (
            f"the library that brings it is {brings}."
            if brings
            else f"the library that registers {namespace} is missing."
        ),
        hint="Name that library with --library LIB.so, built against this libtorch; a program of yours must "
        "link or load it, too.",
        details=details,
    )
