"""The parsers of texts and bytes for single facts."""

from __future__ import annotations

import struct

import pytest

from torchlink.libtorch.packages import package_of
from torchlink.libtorch.standard import guard_in
from torchlink.libtorch.version import parse_version_py, release, returned_constant


@pytest.mark.parametrize(
    ("text", "standard"),
    [
        ("#if !defined(_MSC_VER) && __cplusplus < 201402L\n#error C++14 or later\n#endif\n", 14),
        (
            (
                "#if (defined(_MSC_VER) && (!defined(_MSVC_LANG) || _MSVC_LANG < 201703L)) || \\\n"
                "    (!defined(_MSC_VER) && __cplusplus < 201703L)\n#error You need C++17 to compile PyTorch\n#endif\n"
            ),
            17,
        ),
        (
            (
                "#if (defined(_MSVC_LANG) && _MSVC_LANG < 202002L) || \\\r\n"
                "    (!defined(_MSVC_LANG) && __cplusplus < 202002L)\r\n#error C++20 or later\r\n#endif\r\n"
            ),
            20,
        ),
        ("#if __cplusplus < 202302L\n  // why\n#  error no\n#endif\n", 23),
        ("#if __cplusplus >= 201402L || defined(X)\n#error X\n#endif\n", None),
        ("#if __cplusplus < 201703L\n#define OLD\n#endif\n#error\n", None),
        ("// #if __cplusplus < 201703L\n// #error\n", None),
        ("", None),
    ],
)
def test_the_check_in_a_header_shows_the_standard(text: str, standard: int | None) -> None:
    assert guard_in(text) == standard


def test_version_py_is_parsed_in_both_styles() -> None:
    old = parse_version_py("__version__ = '1.13.1+cu117'\ndebug = False\ncuda = '11.7'\nhip = None\n")
    assert (old.version, old.cuda, old.rocm) == ("1.13.1+cu117", "11.7", None)
    new = parse_version_py(
        'from typing import Optional\n\n__all__ = ["__version__", "cuda"]\n__version__ = "2.15.0+rocm7.1"\n'
        "cuda: Optional[str] = None\nhip: Optional[str] = '7.1.2-abc'\nrocm: Optional[str] = None\n"
    )
    assert (new.version, new.cuda, new.rocm) == ("2.15.0+rocm7.1", None, "7.1.2-abc")
    assert parse_version_py("__version__ = get_version()\n").version is None


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("2.13.0+cpu", (2, 13, 0)),
        ("1.13.0a0", (1, 13, 0)),
        ("2.7", (2, 7, 0)),
        ("2.16.0.dev20260101+cu130", (2, 16, 0)),
        ("2.1.0a0+gitdeadbee", (2, 1, 0)),
        ("nightly", None),
        ("2", None),
    ],
)
def test_releases_are_compared_without_their_tags(text: str, numbers: tuple[int, ...] | None) -> None:
    assert release(text) == numbers


@pytest.mark.parametrize(
    ("machine", "words", "constant"),
    [
        ("x86_64", b"\x48\xb8\x00\x00\x00\x00\x00\x00\x0d\x02\xc3\x0f\x1f", 0x020D << 48),
        ("x86_64", b"\xf3\x0f\x1e\xfa\x48\xb8\x00\x00\x00\x00\x00\x01\x0d\x02\xc3", 0x020D01 << 40),
        ("x86_64", b"\x55\x48\x89\xe5\x48\xb8\x00\x00\x00\x00\x00\x00\x0d\x02\xc3", None),
        ("aarch64", struct.pack("<II", 0xD2E041A0, 0xD65F03C0), 0x020D << 48),
        ("aarch64", struct.pack("<IIII", 0xD503245F, 0xD2C02000, 0xF2E041A0, 0xD65F03C0), 0x020D01 << 40),
        ("aarch64", struct.pack("<II", 0xA9BF7BFD, 0xD65F03C0), None),
        ("riscv64", b"\x00" * 32, None),
    ],
)
def test_code_that_returns_a_constant_is_decoded(machine: str, words: bytes, constant: int | None) -> None:
    assert returned_constant(words, machine) == constant


@pytest.mark.parametrize(
    ("library", "cuda", "package"),
    [
        ("libcupti.so.13", "13.2", "nvidia-cuda-cupti"),
        ("libcupti.so.12", "12.4", "nvidia-cuda-cupti-cu12"),
        ("libcudnn.so.9", "13.0", "nvidia-cudnn-cu13"),
        ("libcudnn_graph.so.9", "12.8", "nvidia-cudnn-cu12"),
        ("libcublasLt.so.13", "13.0", "nvidia-cublas"),
        ("libcusparseLt.so.0", "12.4", "nvidia-cusparselt-cu12"),
        ("libcusparse.so.12", "12.4", "nvidia-cusparse-cu12"),
        ("libnvshmem_host.so.3", "13.2", "nvidia-nvshmem-cu13"),
        ("libcudart.so.11.0", "11.7", "nvidia-cuda-runtime-cu11"),
        ("libnvToolsExt.so.1", "12.4", "nvidia-nvtx-cu12"),
        ("libmkl_intel_lp64.so.2", None, "mkl"),
        ("libmkl_sycl_blas.so.6", None, "onemkl-sycl-blas"),
        ("libur_loader.so.0", None, "intel-cmplr-lib-ur"),
        ("libsycl.so.9", None, "intel-sycl-rt"),
        ("libfmt.so.9", None, None),
    ],
)
def test_missing_libraries_have_a_package(library: str, cuda: str | None, package: str | None) -> None:
    assert package_of(library, cuda) == package


def test_the_package_that_torch_requires_is_named() -> None:
    requires = "Requires-Dist: nvidia-cublas-cu12 (==12.4.5.8) ; platform_system == 'Linux'\n"
    assert package_of("libcublas.so.12", "13.0", requires) == "nvidia-cublas-cu12"
