"""What `ldd`, `lddtree` and `readelf -d` printed (recorded in `texts/`) is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from torchlink.errors import MalformedFileError
from torchlink.lint.text.tool_output import check_text, decode, listings

if TYPE_CHECKING:
    from torchlink.lint.text.listing import Listing
from tests.lint.recorded import TEXTS, recorded


def shape(listing: Listing) -> tuple[str | None, list[str], list[str], list[str], list[str]]:
    """Subject, names found, names missing, undefined symbols, versions that are not there."""
    return (
        listing.subject,
        [each.name for each in listing.libraries if each.path],
        [each.name for each in listing.libraries if not each.path],
        [each.symbol for each in listing.undefined],
        [each.version for each in listing.versions if not each.found],
    )


AB = ["liba.so", "libc.so.6", "libb.so"]


TREE = ["liba.so", "libb.so", "libc.so.6"]


MUSL = ["liba.so", "libc.so", "libb.so"]


READ = [
    ("ldd-sound", [(None, AB, [], [], [])]),
    ("ldd-missing", [(None, AB, ["libgone.so"], [], [])]),
    (
        "ldd-r-undefined",
        [("./undefined", ["liba.so", "libgone.so", "libc.so.6", "libb.so"], [], ["gone"], [])],
    ),
    ("ldd-r-versioned", [("./versioned", ["libv.so", "libc.so.6"], [], ["w"], ["V_2"])]),
    ("ldd-v", [("./good", AB, [], [], [])]),
    ("ldd-v-versioned", [("./versioned", ["libv.so", "libc.so.6"], [], [], ["V_2", "V_2"])]),
    (
        "ldd-several",
        [
            ("./good", AB, [], [], []),
            ("./missing", AB, ["libgone.so"], [], []),
            ("./static", [], [], [], []),
        ],
    ),
    ("ldd-static", [(None, [], [], [], [])]),
    ("musl-ldd-sound", [(None, MUSL, [], [], [])]),
    ("musl-ldd-missing", [("m/missing", MUSL, ["libgone.so"], ["gone"], [])]),
    (
        "musl-ldd-undefined",
        [("m/undefined", ["liba.so", "libgone.so", "libc.so", "libb.so"], [], ["gone"], [])],
    ),
    ("lddtree", [("./good", TREE, [], [], []), ("./missing", TREE, ["libgone.so"], [], [])]),
    ("lddtree-a", [("./good", [*TREE, "ld-linux-x86-64.so.2"], [], [], [])]),
    ("lddtree-l", [("./good", TREE, [], [], []), ("./missing", TREE, ["libgone.so"], [], [])]),
    ("readelf-d", [(None, ["liba.so", "libc.so.6"], [], [], [])]),
    (
        "readelf-d-several",
        [
            ("./good", ["liba.so", "libc.so.6"], [], [], []),
            ("./static", [], [], [], []),
            ("lib/liba.so", ["libb.so"], [], [], []),
        ],
    ),
    (
        "readelf-d-french",
        [("./good", ["liba.so", "libc.so.6"], [], [], []), ("./static", [], [], [], [])],
    ),
    (
        "readelf-d-chinese",
        [("./good", ["liba.so", "libc.so.6"], [], [], []), ("lib/liba.so", ["libb.so"], [], [], [])],
    ),
    ("readelf-d-static", [(None, [], [], [], [])]),
    ("llvm-readelf-d", [("good", ["liba.so", "libc.so.6"], [], [], []), ("static", [], [], [], [])]),
    ("loader-missing", [("./missing", [], ["libgone.so"], [], [])]),
    ("loader-undefined", [("./undefined", [], [], ["gone"], [])]),
    ("loader-version", [("./versioned", ["libv.so"], [], [], ["V_2"])]),
]


@pytest.mark.parametrize(("name", "expected"), READ, ids=[name for name, _ in READ])
def test_the_output_of_a_tool_is_parsed(name: str, expected: list[object]) -> None:
    assert [shape(listing) for listing in listings(recorded(name), name)] == expected


def test_every_recorded_text_is_tried() -> None:
    assert {path.stem for path in TEXTS.iterdir()} == {name for name, _ in READ} | {"ldd-absent", "ldd-u"}


@pytest.mark.parametrize("name", ["ldd-missing", "lddtree", "readelf-d-several", "musl-ldd-missing"])
def test_the_way_a_text_was_saved_does_not_matter(name: str) -> None:
    text = recorded(name)
    plain = [shape(listing) for listing in listings(text, name)]
    windows = text.replace("\n", "\r\n")
    for data in (windows.encode("utf-8-sig"), windows.encode("utf-16"), text.encode("utf-16")):
        assert [shape(listing) for listing in listings(decode(data, name), name)] == plain


def test_a_text_copied_from_a_page_may_have_lost_its_tabs() -> None:
    for indent in ("    ", ""):
        text = recorded("ldd-missing").replace("\t", indent)
        assert [shape(each) for each in listings(text, "x")] == [(None, AB, ["libgone.so"], [], [])]


def test_the_loader_of_any_language_and_system_is_no_library() -> None:
    for loader in ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux.so.2", "/lib/ld.so.1", "/lib64/ld64.so.2"):
        (listing,) = listings(f"\tlibm.so.6 => /lib/libm.so.6 (0x00007f00)\n\t{loader} (0x00007f10)\n", "x")
        assert listing.interpreter == loader
        assert [each.name for each in listing.libraries] == ["libm.so.6"]
    (listing,) = listings("\tlinux-gate.so.1 =>  (0xffffe000)\n\tlibm.so.6 => not found\n", "x")
    assert [each.name for each in listing.libraries] == ["libm.so.6"]


def test_a_program_that_is_not_dynamic_is_known_in_any_language() -> None:
    for sentence in (
        "not a dynamic executable",
        "das Programm ist nicht dynamisch gelinkt",
        "statically linked",
    ):
        for text in (f"\t{sentence}\n", f"./app:\n\t{sentence}\n"):
            (listing,) = listings(text, "x")
            assert listing.static


@pytest.mark.parametrize("text", ["", "\n\n", "hello\n", "error: no such file\n", "numpy\ntorch\n"])
def test_a_text_of_no_known_tool_is_rejected(text: str) -> None:
    with pytest.raises(MalformedFileError) as refused:
        listings(text, "-")
    assert refused.value.hint
    assert "Standard input" in refused.value.message


@pytest.mark.parametrize("name", ["ldd-absent", "ldd-u"])
def test_a_text_without_a_binary_is_rejected(name: str) -> None:
    with pytest.raises(MalformedFileError):
        list(check_text(recorded(name), name))


LINES = st.sampled_from(
    [line for path in sorted(TEXTS.iterdir()) for line in recorded(path.stem).split("\n")]
)


@given(st.lists(st.one_of(LINES, st.text()), max_size=12))
@example(["ldd: ./absent: No such file or directory"] * 2 + ["/lib64/ld-linux-x86-64.so.2"])
def test_no_text_breaks_the_parsers(lines: list[str]) -> None:
    try:
        assert listings("\n".join(lines), "x")
    except MalformedFileError:
        return
