"""The names of libtorch's libraries, and of vendors' and drivers': the one place for them.

Bare names (`torch_cpu`) hold on every platform; patterns match file names and SONAMEs on Linux.
"""

from __future__ import annotations

# One of these is in the library directory of every libtorch, whatever its age.
CORE = frozenset({"c10", "torch", "torch_cpu", "caffe2"})
# The CPU libraries by age, newest first: a build is of the first age whose libraries it has.
CPU_LIBRARIES = (
    ("torch_cpu", "c10"),  # from 1.5 on
    ("torch", "caffe2", "c10"),  # 1.0 and 1.1
    ("torch", "c10"),  # 1.2 to 1.4
)
# Required libraries: they register themselves when loaded, and no program references their symbols. They are linked
# where they exist: the split ones are in 1.8 to 1.13 only, the caffe2 ones in 1.0 and 1.1. On Windows the linker keeps
# a library only for a symbol; these are the symbols that upstream's own builds include.
REQUIRED = {
    "torch_cuda": "?warp_size@cuda@at@@YAHXZ",
    "torch_cuda_cpp": "?warp_size@cuda@at@@YAHXZ",
    "torch_cuda_cu": "?searchsorted_cuda@native@at@@YA?AVTensor@2@AEBV32@0_N1@Z",
    "torch_hip": None,
    "torch_xpu": None,
    "caffe2_gpu": None,
    "caffe2_hip": None,
}
ACCELERATOR_CORES = ("c10_cuda", "c10_hip", "c10_xpu")  # a program that needs them references their symbols
PYTHON_LIBRARY = "torch_python"  # Python extensions link it too
# The libraries that programs and Python extensions link; others are loaded with dlopen, or belong to tests.
LINKABLE = frozenset(
    {"c10", *ACCELERATOR_CORES, "torch_cpu", "torch_cuda", "torch_hip", "torch_xpu", PYTHON_LIBRARY}
)
# Every library that contains libtorch's code; a user's own library may begin with `libtorch_` too.
TORCH_LIBRARIES = LINKABLE | {
    "torch",
    "torch_cuda_cu",
    "torch_cuda_cpp",
    "torch_cuda_linalg",
    "torch_global_deps",
    "torch_nvshmem",
    "caffe2_nvrtc",
}
TEST_LIBRARIES = frozenset({"jitbackend_test", "torchbind_test", "backend_with_compiler", "aoti_custom_ops"})
# Only Python loads these; `_C.lib` is the import library of the extension module.
PYTHON_ONLY = frozenset({PYTHON_LIBRARY, "shm", "_C"})

# The C and C++ runtime, and libraries that come with a driver and never with torch.
EVERYWHERE = frozenset(
    {"libc", "libm", "libdl", "librt", "libpthread", "libutil", "libgcc_s", "libstdc++", "ld64"}
    | {"libcuda", "libnvidia-ml", "libze_loader"}
)
LOADERS = ("ld-linux", "ld-musl")

# NVIDIA's libraries, as their SONAMEs begin → the PyPI package's name without `nvidia-` and without the CUDA suffix.
NVIDIA_PACKAGES = {
    "libcublas": "cublas",
    "libcublasLt": "cublas",
    "libcudart": "cuda-runtime",
    "libcudnn": "cudnn",
    "libcufft": "cufft",
    "libcufile": "cufile",
    "libcupti": "cuda-cupti",
    "libcurand": "curand",
    "libcusolver": "cusolver",
    "libcusolverMg": "cusolver",
    "libcusparse": "cusparse",
    "libcusparseLt": "cusparselt",
    "libnccl": "nccl",
    "libnvJitLink": "nvjitlink",
    "libnvToolsExt": "nvtx",
    "libnvrtc": "cuda-nvrtc",
    "libnvshmem_host": "nvshmem",
}
# The same as a pattern for the beginning of a name; a toolkit has more of them (libcublasLt, libcutensor, …).
NVIDIA = r"lib(cu(blas|dart|dnn|fft|file|pti|rand|solver|sparse|tensor)|nv(rtc|JitLink|ToolsExt|shmem)|nccl)"
# CUDA's libraries whose SONAME has CUDA's own major version, and others of which a process must have only one.
CUDA_NUMBERED = ("cudart", "cublas", "cublasLt", "nvrtc", "cupti", "nvJitLink")
CUDA_OTHERS = ("cufft", "cusparse", "cusolver", "curand", "cudnn")
# What the kernel driver's package contains; each machine has its own.
DRIVER = r"lib(cuda|nvcuvid|nvidia-[a-z]+|nvoptix)\.so"

# SONAME → package of Debian and Ubuntu, for what the packages of libtorch and of its compiler do not already contain.
DEBIAN_PACKAGES = {
    "libOpenCL.so.1": "ocl-icd-libopencl1",
    "libblas.so.3": "libblas3",
    "libgfortran.so.5": "libgfortran5",
    "libgomp.so.1": "libgomp1",
    "liblapack.so.3": "liblapack3",
    "libz.so.1": "zlib1g",
}


def library_name(file: str) -> str | None:
    """Return the bare name of a shared library, `torch_cpu` for `libtorch_cpu.so.1.13`; None for other files."""
    stem, _, suffix = file.rpartition(".")
    if suffix in {"dll", "lib"}:
        return stem
    if suffix not in {"so", "dylib"}:
        stem, _, version = file.rpartition(".so.")
        if not version.replace(".", "").isdigit():
            return None
    return stem.removeprefix("lib") or None


def bare_name(file: str) -> str:
    """Return `library_name`, or the name unchanged if it is not a library's."""
    return library_name(file) or file
