"""What a log is of, besides its causes: tools and kinds of errors, and what to run when no cause is named."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of error, recognised by a line."""

    pattern: str
    what: str
    next: tuple[str, ...]  # commands to run if libtorch is involved


# All that match are reported; each pattern needs a fixed word, as those of causes do.
KINDS = (
    Kind(
        r"Getting requirements to build (?:wheel|editable)",
        "pip's build of a package in an isolated environment, which does not see the installed torch",
        ("pip install --no-build-isolation PACKAGE",),
    ),
    Kind(
        r"No module named \W?torch(?![\w.])\W?|"
        r"Error while finding module specification for \Wtorch(?!\w)",
        "a Python that has no torch",
        ("torchlink find --all", "python3 -m pip install torch"),
    ),
    Kind(
        r"Found no NVIDIA driver on your system|The NVIDIA driver on your system is too old|"
        r"CUDA driver version is insufficient for CUDA runtime version|"
        r"No CUDA GPUs are available|no CUDA-capable device is detected",
        "an NVIDIA driver that is missing or older than this CUDA needs",
        ("torchlink doctor", "nvidia-smi"),
    ),
    Kind(
        r"#error:? *-- unsupported (?:GNU|clang|Microsoft Visual Studio) version",
        "nvcc's refusal of a host compiler that is newer than the CUDA toolkit supports",
        ("torchlink doctor",),
    ),
    Kind(
        r"cannot allocate memory in static TLS block|cannot load any more object with static TLS",
        "a library that found no static TLS space left",
        ("torchlink lint APP",),
    ),
    Kind(
        r"undefined reference to |undefined symbol: |Undefined symbols for architecture|unresolved external symbol",
        "a linker's or loader's undefined symbols",
        ("torchlink lint APP",),
    ),
    Kind(
        r"recompile with -fPIC",
        "an object of a shared library that was compiled without -fPIC",
        ("torchlink c++ -fPIC -c FILE.cpp",),
    ),
    Kind(
        r"cannot find -l|library not found for -l|cannot open input file '.*\.lib'",
        "a linker's missing library",
        ("torchlink flags --link",),
    ),
    Kind(
        r"cannot open shared object file|Library not loaded: |DLL load failed",
        "a library that the loader did not find",
        ("ldd APP | torchlink lint -",),
    ),
    Kind(
        r"(?:GLIBC|GLIBCXX|CXXABI)_[\d.]+' not found",
        "a version of the C or C++ library that is missing",
        ("torchlink lint APP",),
    ),
    Kind(r"^CMake Error", "an error of CMake", ("torchlink cmake configure", "torchlink doctor")),
    Kind(
        r"fatal error: .*(?:No such file|file not found)|cannot open include file",
        "a missing header",
        ("torchlink flags --compile",),
    ),
    Kind(r"\berror: |error C\d{4}: ", "a compiler's errors", ("torchlink doctor",)),
    Kind(r"^Traceback \(most recent call last\)", "a Python traceback", ()),
    Kind(
        r"terminate called after throwing|Segmentation fault|core dumped",
        "a crashed program",
        ("torchlink verify MODEL",),
    ),
    Kind(
        r"error\[E\d{4}\]|error: linking with `|custom build command for `",
        "an error of cargo",
        ("torchlink flags --rust",),
    ),
)
# A name or path of libtorch: without any, the log is of something else.
LIBTORCH = r"(?i:torch)|(?<![0-9a-f])c10(?=::)|3c10(?=\d+\w)|libc10\b"
# The build systems and languages that a log shows, by the names of `for` in a fix.
CONTEXTS = {
    "cmake": r"CMake|CMakeFiles|CMakeLists",
    "nim": r"\bnim (?:c|cpp)\b|\.nim\b|nimcache",
    "python": r"^Traceback \(most recent|setup\.py|site-packages/setuptools|ImportError: ",
    "rust": r"\bcargo\b|rustc|torch-sys|\bcargo:",
    "go": r"\bcgo\b|go build|# command-line-arguments",
    "haskell": r"\bghc\b|cabal",
    "dotnet": r"TorchSharp|\bdotnet\b|System\.DllNotFoundException",
    "windows": r"LNK\d{4}|\bcl\.exe|error C\d{4}|MSBuild|\.dll\b",
    "macos": r"Undefined symbols for architecture|\.dylib|ld: library not found|dyld",
    "c++": r"\b(?:g\+\+|clang\+\+|c\+\+) ",
}
