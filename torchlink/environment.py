"""The environment of a program under test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torchlink.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

# These change which libraries the dynamic loader loads, so none is passed to a program under test.
LOADER_VARIABLES = (
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "LD_AUDIT",
    "LD_BIND_NOW",
    "DYLD_LIBRARY_PATH",
    "DYLD_INSERT_LIBRARIES",
    "DYLD_FALLBACK_LIBRARY_PATH",
)

# The only variables that are passed to a program under test; docs/security.md lists them. The rest, which may hold a CI
# job's tokens and passwords, is not passed.
KEPT = """
PATH HOME USER LOGNAME TMPDIR TMP TEMP LANG LANGUAGE TZ LC_* XDG_CACHE_HOME GLIBC_TUNABLES MALLOC_* QEMU_LD_PREFIX
OMP_* GOMP_* KMP_* MKL_* OPENBLAS_* BLIS_* DNNL_* ONEDNN_* ATEN_* TORCH_* PYTORCH_*
CUDA_* CUBLAS_* CUDNN_* NCCL_* NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES NVIDIA_TF32_OVERRIDE
HIP_* ROCR_* HSA_* MIOPEN_* GPU_DEVICE_ORDINAL ZE_* SYCL_* ONEAPI_* SYSTEMROOT WINDIR COMSPEC PATHEXT
"""
KEPT_VARIABLES = frozenset(name for name in KEPT.split() if name[-1] != "*")
KEPT_PREFIXES = tuple(name[:-1] for name in KEPT.split() if name[-1] == "*")
SECRET = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "_KEY")  # anywhere in a name: never passed


def minimal_environment(passed: Sequence[str] = ()) -> dict[str, str]:
    """Return the environment for a program under test: without variables of the dynamic loader, and without secrets.

    Args:
        passed: further variables, as in `--env`: NAME (ignored if it is not set) or NAME=VALUE.

    Raises:
        UsageError: one has no name, or is one of the dynamic loader's.
    """
    kept = {name: value for name, value in os.environ.items() if _is_kept(name)}
    for each in passed:
        name, equals, value = each.partition("=")
        if not name or "\0" in each:
            raise UsageError(
                f"--env {each!r}: missing variable name.", hint="Use --env NAME or --env NAME=VALUE."
            )
        if name in LOADER_VARIABLES:
            raise UsageError(
                f"--env {name}: not allowed: it would change which libraries the program under test loads.",
                hint=f"Omit it; use `torchlink lint --env {name}=…` to see its effect.",
            )
        if equals or name in os.environ:
            kept[name] = value if equals else os.environ[name]
    return kept


def _is_kept(name: str) -> bool:
    if name in KEPT_VARIABLES:
        return True
    return name.startswith(KEPT_PREFIXES) and not any(word in name.upper() for word in SECRET)
