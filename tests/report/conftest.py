"""Hand-made lint reports: one like that of a real CUDA program, and ones that break renderers."""

from __future__ import annotations

import pytest

from torchlink.lint.finding import (
    Allowed,
    ClosureEntry,
    FileReport,
    Finding,
    LintReport,
    RuleDoc,
    Severity,
)

TORCH = "/venv/lib/python3.12/site-packages/torch/lib"
SYSTEM = "/lib/x86_64-linux-gnu"
NASTY = (
    "plain",
    "",
    "\x00\x01\x1b[31m\x7f\x85",
    "a\nb\r\nc\rd\u2028e",
    "]]><![CDATA[x]]>",
    "</script><script>alert(1)</script><!--",
    "::error file=x::y",
    "##[add-mask]x",
    "100% %0A %25",
    "a:b,c;d|e`f`*g*_h_~i~@j#1$k$",
    "{{ 7 * 7 }} {% raw %} ${TORCH_LIBRARIES} {0}",
    "[text](http://example.org) operator[](int)",
    "not utf-8: \udcff\udc80",
    "\u202emoc.elpmaxe\u2066",
    "\ufffe\uffff\U0001f525é",
    "'\"&<>\\",
    " leading and trailing ",
    "x" * 5000,
)


def entry(name: str, path: str | None, found_via: str, needed_by: str | None, *needs: str) -> ClosureEntry:
    searched = (f"{TORCH}: no such file", f"{SYSTEM}: no such file") if path is None else ()
    return ClosureEntry(name, path, found_via, needed_by, searched=searched, needs=needs)


@pytest.fixture(scope="session")
def torch_report() -> LintReport:
    """A program with a missing library and libraries that need each other, and a clean program."""
    cpu, cuda, c10 = f"{TORCH}/libtorch_cpu.so", f"{TORCH}/libtorch_cuda.so", f"{TORCH}/libc10.so"
    libc = f"{SYSTEM}/libc.so.6"
    app = FileReport(
        "./build/app",
        "executable",
        (
            Finding(
                "library-not-found",
                Severity.ERROR,
                "libcudart.so.12",
                "libtorch_cuda.so needs libcudart.so.12 and no directory of the search holds it.",
                "Link with an rpath to it:\n  g++ … -Wl,-rpath,/opt/cuda/lib64",
                tuple(f"/place/{number}: no such file" for number in range(8)),
            ),
            Finding(
                "rpath-absolute",
                Severity.WARNING,
                "/home/someone/project/build/lib",
                "The rpath holds on this machine only.",
                "Use $ORIGIN.",
                ("DT_RUNPATH: /home/someone/project/build/lib",),
            ),
            Finding("needed-but-unused", Severity.NOTE, cuda, "No relocation binds to it.", ""),
        ),
        (
            entry("./build/app", "./build/app", "the file itself", None, cpu, cuda, c10, libc),
            entry("libtorch_cpu.so", cpu, "RUNPATH of app", "./build/app", c10, libc),
            entry(
                "libtorch_cuda.so", cuda, "RUNPATH of app", "./build/app", cpu, c10, "libcudart.so.12", cuda
            ),
            entry("libc10.so", c10, "RUNPATH of app", "./build/app", libc),
            entry("libc.so.6", libc, "ld.so.cache", "./build/app"),
            entry("libcudart.so.12", None, "not found", cuda),
        ),
        (
            Allowed(
                Finding("exec-stack", Severity.ERROR, "libold.so", "An executable stack.", ""),
                "an old assembler wrote it",
            ),
        ),
        ("Libraries that are opened at run time are not checked.",),
    )
    clean = FileReport(
        "/usr/bin/tool",
        "executable",
        (),
        (
            entry("/usr/bin/tool", "/usr/bin/tool", "the file itself", None, libc),
            entry("libc.so.6", libc, "ld.so.cache", "/usr/bin/tool"),
        ),
    )
    return LintReport((app, clean), ("no finding matches the allow entry for x on '*' (y).",))


@pytest.fixture(scope="session")
def nasty_report() -> LintReport:
    """Every field of every object filled with every text that may break a format."""
    files = []
    for text in NASTY:
        findings = tuple(
            Finding(text or "rule", severity, text, text, text, (text, text)) for severity in Severity
        )
        closure = (
            ClosureEntry(text, text, text, None, (text,), ("x" + text, "missing" + text)),
            ClosureEntry(text, "x" + text, text, text, (text,), (text, "x" + text)),
            ClosureEntry("missing" + text, None, text, "x" + text, (text,)),
        )
        files.append(
            FileReport(
                text, text, findings, closure, tuple(Allowed(f, text) for f in findings), (text,), (text,)
            )
        )
    return LintReport(tuple(files), NASTY)


@pytest.fixture(scope="session")
def huge_report() -> LintReport:
    """Ten thousand findings in one file."""
    findings = tuple(
        Finding(
            f"rule-{number % 7}",
            list(Severity)[number % 3],
            f"/lib/lib{number}.so",
            "It is wrong " * 5,
            "Fix it.",
            (f"symbol {number}",),
        )
        for number in range(10_000)
    )
    return LintReport((FileReport("app", "executable", findings, ()),))


@pytest.fixture(scope="session")
def ring_report() -> LintReport:
    """Objects that need each other in a cycle, one that needs itself, and a `needed_by` that closes a cycle."""
    return LintReport(
        (
            FileReport(
                "a",
                "shared library",
                (),
                (
                    ClosureEntry("a", "a", "the file itself", None, needs=("b", "c")),
                    ClosureEntry("b", "b", "RUNPATH of a", "a", needs=("c", "a", "b")),
                    ClosureEntry("c", "c", "RUNPATH of a", "a", needs=("b",)),
                ),
            ),
            FileReport(
                "x",
                "ldd text",
                (),
                (
                    ClosureEntry("x", "x", "ldd", "y"),
                    ClosureEntry("y", "y", "ldd", "x"),
                    ClosureEntry("z", "z", "ldd", "nobody"),
                    ClosureEntry("z", "z", "ldd", "y"),
                ),
            ),
        )
    )


@pytest.fixture(scope="session")
def chain_report() -> LintReport:
    """Three thousand libraries, each needed by the one before."""
    names = [f"lib{number}.so" for number in range(3000)]
    closure = tuple(
        ClosureEntry(name, name, "RUNPATH", names[index - 1] if index else None, needs=(name,))
        for index, name in enumerate(names)
    )
    return LintReport((FileReport("lib0.so", "shared library", (), closure),))


@pytest.fixture(scope="session")
def rules() -> tuple[RuleDoc, ...]:
    """The documentation of the rules in `torch_report`."""
    return (
        RuleDoc(
            "library-not-found",
            Severity.ERROR,
            "A library that the loader will not find.",
            "## What\n\nA library is missing.",
            "https://example.org/rules#library-not-found",
        ),
        RuleDoc("two-openmp-runtimes", Severity.ERROR, "Two OpenMP runtimes are loaded."),
    )
