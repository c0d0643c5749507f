"""Which libraries are left to the system and why, and which are opened by name at run time.

The first table is what auditwheel's policies and AppImage's exclude list agree on, as far as programs with libtorch
need it. It is short, because every system must have what is not bundled. The second is taken from strings in the
libraries (cuDNN 9, CUDA 13, MKL 2) and from PyTorch's `LazyNVRTC.cpp` and `LinearAlgebraStubs.cpp`.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class Exclusion(NamedTuple):
    """Libraries that are not bundled."""

    names: tuple[str, ...]  # globs over NEEDED names and SONAMEs
    reason: str


class Companion(NamedTuple):
    """Libraries that another one opens by name at run time, without a NEEDED entry."""

    opener: str  # glob over the SONAME of the library that opens them
    names: tuple[str, ...]  # globs over file names
    purpose: str


GRAPHICS = Exclusion(
    (
        *("libGL.so.*", "libEGL.so.*", "libGLX*.so.*", "libGLdispatch.so.*", "libOpenGL.so.*"),
        *("libGLESv*.so.*", "libOpenCL.so.*", "libvulkan.so.*", "libgbm.so.*", "libglapi.so.*"),
    ),
    "opens the system's graphics drivers, and must match them",
)
DRIVER = Exclusion(
    (
        *("libcuda.so.*", "libcudadebugger.so.*", "libnvcuvid.so.*", "libnvidia-*", "libnvoptix.so.*"),
        *("libnvcucompat.so.*", "libdxcore.so*", "libze_*.so.*"),
    ),
    "part of the GPU's driver: it must match the kernel module of the machine",
)
EXCLUSIONS = (
    Exclusion(
        (
            "ld-linux*.so.*",
            "ld64.so.*",
            "ld.so.1",
            "libnsl.so.1",
            *(
                f"lib{part}.so.*"
                for part in (
                    *("BrokenLocale", "anl", "c", "c_malloc_debug", "dl", "m", "mvec", "nss_*"),
                    *("pthread", "resolv", "rt", "thread_db", "util"),
                )
            ),
        ),
        "part of glibc: it must match the system's loader, which starts the program",
    ),
    Exclusion(("ld-musl-*", "libc.musl-*", "libc.so"), "musl, which is also the loader"),
    DRIVER,
    GRAPHICS,
    Exclusion(
        (
            "libX11*.so.*",
            "libXext.so.*",
            "libxcb*.so.*",
            "libwayland-*.so.*",
            "libasound.so.*",
            "libjack.so.*",
        ),
        "talks to the system's display or sound server",
    ),
    Exclusion(
        ("libibverbs.so.*", "librdmacm.so.*", "libmlx5.so.*", "libefa.so.*", "libudev.so.*"),
        "opens the system's device libraries, and must match them",
    ),
    Exclusion(("libpython*.so*",), "works only with the standard library of the system's Python"),
)
CXX_RUNTIME = Exclusion(
    ("libstdc++.so.*", "libgcc_s.so.*"), "--keep-system-cxx: the system's must be at least as new"
)

COMPANIONS = (
    Companion(
        "libtorch_cuda*.so*",
        ("libcaffe2_nvrtc.so", "libtorch_cuda_linalg.so", "libtorch_nvshmem.so"),
        "kernels that are compiled when they are needed, linear algebra, shared GPU memory",
    ),
    Companion("libtorch_hip.so*", ("libcaffe2_nvrtc.so",), "kernels that are compiled when they are needed"),
    Companion("libcudnn.so.*", ("libcudnn_*.so.*",), "all of cuDNN's operations"),
    Companion("libnvrtc.so.*", ("libnvrtc-builtins.so.*",), "the compiler's built-in functions"),
    Companion(
        "libcublasLt.so.*", ("libnvrtc.so.*",), "matrix kernels that are compiled when they are needed"
    ),
    Companion("libcufft.so.*", ("libnvJitLink.so.*", "libnvrtc.so.*"), "kernels linked when they are needed"),
    Companion("libcusparse.so.*", ("libnvJitLink.so.*",), "kernels that are linked when they are needed"),
    Companion("libcusparseLt.so.*", ("libnvrtc.so.*",), "kernels that are compiled when they are needed"),
    Companion("libcudnn_graph.so.*", ("libnvrtc.so.*", "libcublasLt.so.*"), "engines compiled when needed"),
    Companion("libcupti.so.*", ("libnvperf_host.so",), "the profiler's counters"),
    Companion("libcufile.so.*", ("libcufile_rdma.so.*",), "GPUDirect Storage over a network"),
    Companion(
        "libnvshmem_host.so.*",
        ("nvshmem_bootstrap_*.so.*", "nvshmem_transport_*.so.*"),
        "start-up and transports of NVSHMEM",
    ),
    Companion(
        "libmkl_core.so*",
        tuple(f"libmkl_{part}.so*" for part in ("def", "mc3", "avx", "avx2", "avx512", "vml_*")),
        "MKL's kernels for each processor",
    ),
    Companion("libmkl_rt.so*", ("libmkl_*.so*",), "all of MKL"),
)

# Data files that a library needs: without them a bundle starts, but fails when it uses the library.
DATA_BESIDE = {
    "librocblas.so*": "rocBLAS reads kernels from rocblas/library next to it, which are not bundled",
    "libhipblaslt.so*": "hipBLASLt reads kernels from hipblaslt/library next to it, which are not bundled",
    "libMIOpen.so*": "MIOpen reads its database from share/miopen, which is not bundled",
    "libpython*.so*": "a program that embeds Python needs a Python of the same version on the machine",
}


class Policy:
    """Which libraries are not bundled.

    Args:
        keep_system_cxx: leave libstdc++ and libgcc_s to the system.
        exclude: globs of further libraries to leave out; they override everything else.
        include: globs of libraries to bundle although the tables exclude them.
    """

    def __init__(
        self, *, keep_system_cxx: bool = False, exclude: Sequence[str] = (), include: Sequence[str] = ()
    ) -> None:
        self._first = (Exclusion(tuple(exclude), "--exclude"),)
        self._include = tuple(include)
        self._unmatched = dict.fromkeys((*exclude, *include))
        self._rest = (*EXCLUSIONS, *((CXX_RUNTIME,) if keep_system_cxx else ()))

    def reason(self, *names: str | None) -> str | None:
        """Return why a library with these names is not bundled; None: it is."""
        known = [name for name in names if name]
        self._unmatched = {each: None for each in self._unmatched if not matches(known, (each,))}
        rest = () if matches(known, self._include) else self._rest
        return next((stays.reason for stays in (*self._first, *rest) if matches(known, stays.names)), None)

    @property
    def unmatched(self) -> tuple[str, ...]:
        """The user's globs that have matched no library so far."""
        return tuple(self._unmatched)


def companions_of(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield what a library with these names opens at run time: (glob over file names, purpose)."""
    known = list(names)
    for companion in COMPANIONS:
        if matches(known, (companion.opener,)):
            for name in companion.names:
                yield name, companion.purpose


def matches(names: Iterable[str], patterns: Iterable[str]) -> bool:
    """Whether any name matches any glob; case matters."""
    patterns = tuple(patterns)
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
