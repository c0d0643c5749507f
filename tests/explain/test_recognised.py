"""What is no error of libtorch is recognised, with what to run next, and is no cause."""

from __future__ import annotations

import io

import pytest

from torchlink.explain.explanation import explain


@pytest.mark.parametrize(
    ("log", "what", "following"),
    [
        (
            "ModuleNotFoundError: No module named 'torch'",
            "a Python that has no torch",
            "torchlink find --all",
        ),
        (
            "/usr/bin/python3: Error while finding module specification for 'torch.utils'",
            "a Python that has no torch",
            "torchlink find --all",
        ),
        (
            "Getting requirements to build wheel did not run successfully.\n"
            "    ModuleNotFoundError: No module named 'torch'",
            "pip's build of a package in an isolated environment, which does not see the installed torch",
            "pip install --no-build-isolation PACKAGE",
        ),
        (
            "RuntimeError: The NVIDIA driver on your system is too old (found version 11040).",
            "an NVIDIA driver that is missing or older than this CUDA needs",
            "nvidia-smi",
        ),
        (
            "/usr/bin/ld: ops.o: relocation R_X86_64_PC32 against symbol `stderr@@GLIBC_2.2.5' can not be used when "
            "making a shared object; recompile with -fPIC",
            "an object of a shared library that was compiled without -fPIC",
            "torchlink c++ -fPIC -c FILE.cpp",
        ),
        (
            "ImportError: /usr/lib/libgomp.so.1: cannot allocate memory in static TLS block",
            "a library that found no static TLS space left",
            "torchlink lint APP",
        ),
    ],
)
def test_it_is_recognised_and_no_cause(log: str, what: str, following: str) -> None:
    found = explain([("log", io.BytesIO(log.encode()))])
    assert not found.causes
    assert following in next(each.next for each in found.recognised if each.what == what)


@pytest.mark.parametrize("name", ["torch_geometric", "torchvision", "torch.fx.nothing"])
def test_another_module_that_is_missing_is_not(name: str) -> None:
    found = explain([("log", io.BytesIO(f"ModuleNotFoundError: No module named '{name}'".encode()))])
    assert not found.causes
    assert not found.recognised
