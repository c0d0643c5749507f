"""A library may rely on the RPATH of what brings it, where that is checked beside it."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from torchlink.lint.finding import LintReport, Severity
from torchlink.lint.linting import lint

if TYPE_CHECKING:
    from tests.lint.builder import Builder

pytestmark = pytest.mark.compile
INNER, OUTER = "int inner(void) { return 1; }", "int inner(void);\nint outer(void) { return inner(); }"
MAIN = "int outer(void);\nint main(void) { return outer(); }"


def package(builder: Builder, tags: str) -> Path:
    """`pkg/app`, whose search path leads to the library that it needs and to that one's own."""
    inner = builder.library("pkg/lib/libinner.so", INNER)
    outer = builder.library("pkg/lib/libouter.so", OUTER, inner)
    builder.build("pkg/app", MAIN, outer, f"-Wl,{tags},-rpath,$ORIGIN/lib", f"-Wl,-rpath-link,{inner.parent}")
    return builder.directory / "pkg"


def found(report: LintReport) -> dict[str, list[str]]:
    return {Path(file.path).name: [each.rule for each in file.findings] for file in report.files}


def test_an_inherited_rpath_serves_the_libraries_of_a_directory(builder: Builder) -> None:
    report = lint([package(builder, "--disable-new-dtags")])
    assert found(report) == {"app": [], "libinner.so": [], "libouter.so": []}
    (outer,) = (file for file in report.files if file.path.endswith("libouter.so"))
    (sentence,) = outer.not_checked
    assert "libinner.so: not found if " in sentence
    assert "found through the RPATH of " in sentence
    assert sentence.endswith("pkg/app, which loads it.")


def test_it_serves_the_libraries_of_a_wheel(builder: Builder) -> None:
    directory = package(builder, "--disable-new-dtags")
    wheel = builder.path("pkg-1.0-py3-none-linux_x86_64.whl")
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in directory.rglob("*"):
            archive.write(file, str(file.relative_to(directory.parent)))
    assert found(lint([wheel])) == {"app": [], "libinner.so": [], "libouter.so": []}


def test_a_library_alone_or_under_a_runpath_is_still_reported(builder: Builder) -> None:
    directory = package(builder, "--disable-new-dtags")
    alone = lint([directory / "lib/libouter.so"])
    assert found(alone) == {"libouter.so": ["library-not-found"]}
    assert alone.count(Severity.WARNING) == 1
    shutil.rmtree(directory)
    apart = found(lint([package(builder, "--enable-new-dtags")]))
    assert apart["libouter.so"] == ["library-not-found"]
    assert apart["app"] == ["runpath-not-inherited"]


def test_what_the_program_itself_lacks_is_missing_for_both(builder: Builder) -> None:
    directory = package(builder, "--disable-new-dtags")
    (directory / "lib/libinner.so").unlink()
    assert found(lint([directory])) == {"app": ["library-not-found"], "libouter.so": ["library-not-found"]}


def test_an_image_has_paths_of_its_own(builder: Builder) -> None:
    package(builder, "--disable-new-dtags")
    (builder.directory / "lib").mkdir()
    shutil.copy2("/lib/x86_64-linux-gnu/libc.so.6", builder.directory / "lib")
    (builder.directory / "lib64").mkdir()
    shutil.copy2("/lib64/ld-linux-x86-64.so.2", builder.directory / "lib64")
    report = lint([builder.directory / "pkg"], root=builder.directory)
    assert found(report)["libouter.so"] == []
