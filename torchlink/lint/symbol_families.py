"""Families of symbols: those of one library's implementation, which must not be mixed with another implementation.

The family of a name is the project that it comes from, recognised by the namespace of a C++ name or the prefix of a C
name. The tables below list projects with several prefixes, and prefixes of several projects.
"""

from __future__ import annotations

import re
from functools import lru_cache

BLAS = "BLAS and LAPACK"

# The names of reference BLAS, CBLAS and LAPACK (netlib 3.11) as gfortran and C export them. Drivers and computational
# routines are XYYZZZ: type, matrix, computation (LAPACK Users' Guide, "Naming Scheme"); BLAS levels 2 and 3 as well.
# Vendors' extensions (`cblas_sgemm_batch`, `sgemmt_`) are left out: they differ, and do not call the standard routines.
_TYPE = r"(?:[sdcz]|ds|zc|cs|zd|sc|dz|cr|zr)"
_MATRIX = (
    r"(?:bb|bd|di|gb|ge|gg|gs|gt|hb|he|hf|hg|hp|hs|op|or|pb|pf|po|pp|ps|pt"
    r"|sb|sf|sp|st|sy|tb|tf|tg|tp|tr|tz|un|up)"
)
_VARIANT = (
    r"(?:_(?:2stage|aa_2stage|aa|rk|rook|3x?|base|gett|lwork|row|col(?:_getrfnp2?)?"
    r"|[sh]b2st|sy2sb|he2hb|kernels))?"
)
_ROUTINE = "|".join(
    (
        rf"(?!{_TYPE}gemm(?:t|3m)){_TYPE}{_MATRIX}[a-z0-9]{{1,7}}{_VARIANT}",
        rf"{_TYPE}la_?[a-z0-9]{{2,12}}{_VARIANT}",  # auxiliary routines, `dlamch_`
        rf"{_TYPE}(?:rotm?g?|swap|rscl|scal|copy|axpy|dot[uc]?|nrm2|asum|sum1|cabs1|max1|isnan|root|roundup_lwork)",
        r"sdsdot|i[sdcz]a?max1?|dsecnd|second|lsamen?|ieeeck|ila\w+|iparmq|iparam2stage|xerbla(?:_array)?|chla_transtype",
    )
)
_BLAS_NAME = re.compile(rf"(?:{_ROUTINE})_|cblas_(?:{_ROUTINE})(?:_sub)?|LAPACKE_\w+")

# C names of projects with several prefixes; all others are recognised by the first part of a name (`uv_`, `Sleef_`).
_OF_C = (
    # https://github.com/richgel999/miniz: miniz.h, miniz_tdef.h, miniz_tinfl.h
    ("miniz", re.compile(r"(?:mz|tdefl|tinfl|miniz)_")),
    # Intel oneMKL's headers: mkl_service.h, mkl_dfti.h, mkl_vml_functions.h, i_malloc.h
    (
        "MKL",
        re.compile(
            r"(?:mkl|MKL|cdecl)_|mklg?DFT|[Dd]fti|DFTI_|vml[A-Z]|VML|v[ms]?[sdcz](?:[A-Z]|Pack|Unpack)"
            r"|i_[a-z]+$|(?:xerbla|XERBLA_?)$"
        ),
    ),
    ("MKL's packed gemm", re.compile(r"cblas_[sdh]?gemm\w*_(?:pack|compute)\w*$")),
    # Its kernels and threading, if a library exports all of a static OpenBLAS.
    ("OpenBLAS", re.compile(rf"(?:exec_)?blas_|gotoblas|openblas_|{_TYPE}{_MATRIX}[a-z0-9]+_\w*[^_\W]$")),
    ("c10 and torch", re.compile(r"(?:aoti_)?torch_")),
)
_C_PREFIX = re.compile(r"_*([A-Za-z][A-Za-z0-9]+)_")
# Prefixes whose names are separate interfaces: each name is a family of its own.
_ALONE = re.compile(r"cblas_|FLAGS_")

# C++ namespaces of several projects, and several namespaces of one.
_NESTED = {"google": "protobuf"}  # glog and gflags are in google:: too
_OF_CXX = dict.fromkeys(("c10", "at", "torch", "caffe2"), "c10 and torch")
# Everything before the first identifier (Itanium C++ ABI): vtables, thunks, guards and the like, nesting, qualifiers.
_CXX_HEAD = re.compile(r"_Z(?:GV|GR|T[VTISWHC]|T[hv][n\d_]+|Z)*(N?)[rVK]*[RO]?")
_STANDARD = re.compile(r"S[tabsiod]|9__gnu_cxx|10__cxxabiv1")
_LENGTH = re.compile(r"[1-9]\d{0,3}")

# Names shared by the whole process, or meant to be replaced: the C++ runtime, allocators, sanitizers and profilers, the
# linker's own names, OpenMP's named critical sections.
_PROCESS_WIDE = re.compile(
    r"_Z(?:n[wa]|d[la])|__(?:cxa|gxx|gcc|cpu|register|deregister|start|stop|asan|ubsan|lsan|msan|tsan|hwasan|sanitizer"
    r"|interceptor|gcov|llvm|emutls)_|_Unwind_|_ITM_|\.gomp_"
    r"|(?:malloc|calloc|realloc|reallocarray|free|cfree|memalign|aligned_alloc|posix_memalign|p?valloc"
    r"|malloc_usable_size|_init|_fini|_start|main|_edata|_end|__bss_start|__bss_start__|_bss_end__|__end__)$"
)
# Names that a library's manual invites users to replace: LAPACK's and MKL's error handlers, MKL's progress and memory
# hooks.
_HOOK = re.compile(
    r"(?:cblas_|cdecl_)?xerbla_?$|XERBLA_?$|(?:mkl|MKL|cdecl)_(?:progress|PROGRESS)_?$|i_(?:m|c|re)alloc$|i_free$"
)


@lru_cache(maxsize=1 << 16)
def family(name: bytes) -> str | None:
    """Return the family of a mangled name, as messages name it; the name itself if none is recognised.

    None for names that do not belong to one library: the C++ runtime's, and those meant to be replaced.
    """
    text = name.decode("utf-8", "surrogateescape")
    if _PROCESS_WIDE.match(text):
        return None
    return _of_cxx(text) if text.startswith("_Z") else _of_c(text)


def _of_c(name: str) -> str:
    if _BLAS_NAME.fullmatch(name):
        return BLAS
    for label, pattern in _OF_C:
        if pattern.match(name):
            return label
    prefix = None if _ALONE.match(name) else _C_PREFIX.match(name)
    return f"{prefix[1]}_*" if prefix else name


def _of_cxx(name: str) -> str | None:
    head = _CXX_HEAD.match(name)
    if head is None or _STANDARD.match(name, head.end()):
        return None
    outer, end = _identifier(name, head.end())
    if not outer or outer.startswith("_GLOBAL__N"):
        return name
    if not head[1]:  # a function or variable in no namespace
        return name
    inner = _identifier(name, end)[0]
    if _NESTED.get(outer) == inner:
        return f"{outer}::{inner}"
    return _OF_CXX.get(outer, f"{outer}::")


def _identifier(name: str, at: int) -> tuple[str, int]:
    """Return the identifier at a position of a mangled name, "" if there is none, and its end."""
    length = _LENGTH.match(name, at)
    if length is None:
        return "", at
    end = length.end() + int(length[0])
    return name[length.end() : end], end


def is_hook(name: bytes) -> bool:
    """Whether a library's manual invites users to define this name themselves."""
    return _HOOK.match(name.decode("utf-8", "surrogateescape")) is not None
