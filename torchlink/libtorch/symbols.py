"""The names of libtorch's symbols."""

from __future__ import annotations

import re

# Functions, constants, vtables and type infos of libtorch's namespaces, in Itanium mangling.
TORCH_NAME = r"_Z(T[VISTCWH])?(NK?[RO]?|)(3c10|2at|5torch|6caffe2)\w"
# Further names in libtorch_python: conversions for pybind11, C functions and data.
PYTHONS_NAME = r"_Z(T[VISTC])?NK?8pybind116detail\d+type_casterIN(3c10|2at|5torch)|(_Z\d+)?THP[A-Z]"
# The stable C interface.
STABLE_NAME = (
    r"aoti_torch_|torch_(call_dispatcher|library_|list_|parallel_for|get_(const|mutable)_data_ptr|get_num_threads"
    r"|(get|set)_current_cuda|dtype_|string_|exception_)"
)
TORCH_TYPE = r"N(3c10|2at|5torch)\d"  # in the parameters of a function that is not libtorch's
LIBCXX = "St3__1"  # libc++'s own namespace, std::__1


def is_of_torch(symbol: str) -> bool:
    """Whether only libtorch can define a name."""
    return any(re.match(each, symbol) for each in (TORCH_NAME, PYTHONS_NAME, STABLE_NAME))
