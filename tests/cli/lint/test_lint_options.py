"""What is checked, against what, and which exit code that gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.lint.conftest import rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

    Torchlink = Callable[..., Result]

pytestmark = pytest.mark.compile


def test_exit_0_clean_1_findings_2_could_not_look(torchlink: Torchlink, shop: Path) -> None:
    assert torchlink("lint", shop / "sound").code == 0
    assert torchlink("lint", shop / "idle").code == 0
    assert torchlink("lint", "--fail-on", "warning", shop / "idle").code == 1
    assert torchlink("lint", shop / "lost").code == 1
    assert torchlink("lint", shop / "absent").code == 2
    assert torchlink("lint").code == 2
    assert torchlink("lint", "--fail-on", "bad", shop / "sound").code == 2


def test_rules_are_selected_and_ignored_by_id_and_glob(torchlink: Torchlink, shop: Path) -> None:
    both = (shop / "lost", shop / "idle")
    assert rules(torchlink("lint", "--json", *both)) == {"library-not-found", "unused-library"}
    assert rules(torchlink("lint", "--json", "--select", "library-*", *both)) == {"library-not-found"}
    assert rules(torchlink("lint", "--json", "--ignore", "unused-library,rpath-*", *both)) == {
        "library-not-found"
    }
    shown = torchlink("lint", "--ignore", "library-not-fund", shop / "lost")
    assert shown.code == 2
    assert "library-not-found" in shown.err


def test_settings_are_found_upward_and_options_win(torchlink: Torchlink, shop: Path, tmp_path: Path) -> None:
    settings = tmp_path / "torchlink.toml"
    settings.write_text('[lint]\nignore = ["unused-library"]\nfail-on = "warning"\n')
    assert rules(torchlink("lint", "--json", shop / "idle")) == set()
    assert torchlink("lint", "--ignore", "rpath-*", shop / "idle").code == 1
    settings.write_text(
        '[[lint.allow]]\nrule = "library-not-found"\nsubject = "libgone.so"\nreason = "dlopened"\n'
        '[[lint.allow]]\nrule = "abi-mismatch"\nreason = "never"\n'
    )
    shown = torchlink("lint", shop / "lost")
    assert shown.code == 0
    assert "allowed: 1 finding" in shown.out
    assert "stale: " in shown.out
    settings.write_text("[lint]\nselcet = []\n")
    assert torchlink("lint", shop / "lost").code == 2
    assert torchlink("lint", "--config", tmp_path / "no.toml", shop / "lost").code == 2


def test_a_baseline_lets_what_is_known_pass(torchlink: Torchlink, shop: Path, tmp_path: Path) -> None:
    known = tmp_path / "known.json"
    shown = torchlink("lint", "--write-baseline", known, shop / "lost", shop / "idle")
    assert (shown.code, shown.out) == (0, "")
    assert torchlink("lint", "--baseline", known, "--fail-on", "note", shop / "lost", shop / "idle").code == 0
    assert torchlink("lint", "--baseline", known, "--fail-on", "note", shop / "sound").code == 0
    repaired = tmp_path / "lost"
    shutil.copy(shop / "sound", repaired)
    assert "is no longer found" in torchlink("lint", "--baseline", known, repaired).out
    assert torchlink("lint", "--baseline", shop / "sound", shop / "lost").code == 2
    precious = tmp_path / "precious"
    precious.write_text("mine")
    assert torchlink("lint", "--write-baseline", precious, shop / "lost").code == 2
    assert precious.read_text() == "mine"


def test_a_target_and_allowed_prefixes_are_judged(torchlink: Torchlink, shop: Path) -> None:
    assert rules(torchlink("lint", "--json", "--target", "glibc=2.2", shop / "sound")) == {
        "floor-above-target"
    }
    assert rules(torchlink("lint", "--json", "--allowed-rpath", "/opt", shop / "sound")) == {
        "rpath-not-allowed"
    }
    assert rules(torchlink("lint", "--json", "--allowed-rpath", "$ORIGIN", shop / "sound")) == set()
    assert torchlink("lint", "--target", "debian:99", shop / "sound").code == 2


@pytest.mark.parametrize("prefix", ["", "/..", "/../lib"])
def test_a_prefix_that_the_shell_took_the_origin_from_is_refused(
    torchlink: Torchlink, shop: Path, prefix: str
) -> None:
    shown = torchlink("lint", "--allowed-rpath", prefix, shop / "sound")
    assert (shown.code, shown.out) == (2, "")
    assert "Quote it: --allowed-rpath '$ORIGIN/..'" in shown.err


def test_no_target_is_not_any_target(torchlink: Torchlink, shop: Path) -> None:
    shown = torchlink("lint", "--target", "", shop / "sound")
    assert (shown.code, shown.out) == (2, "")
    assert "Invalid value for '--target': An empty argument names nothing." in shown.err


def test_the_environment_that_it_will_run_in_counts(torchlink: Torchlink, shop: Path, tmp_path: Path) -> None:
    copy = tmp_path / "sound"
    shutil.copy(shop / "sound", copy)
    assert rules(torchlink("lint", "--json", copy)) == {"library-not-found"}
    shown = torchlink("lint", "--json", "--env", f"LD_LIBRARY_PATH={shop / 'lib'}", copy)
    assert "found-through-environment" in rules(shown)
    assert torchlink("lint", "--env", "nonsense", copy).code == 2


def test_an_image_is_judged_as_its_own_loader_would(torchlink: Torchlink, shop: Path, tmp_path: Path) -> None:
    loader = Path("/lib64/ld-linux-x86-64.so.2")
    root = tmp_path / "image"
    for file in (loader, next(Path("/").glob("lib*/*/libc.so.6"))):
        inside = root / str(file)[1:]
        inside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, inside)
    (root / "app").mkdir()
    shutil.copy(shop / "sound", root / "app")
    shutil.copytree(shop / "lib", root / "app/lib")
    document = json.loads(torchlink("lint", "--json", "--root", root, root / "app/sound").out)
    assert {entry["name"]: entry["path"] for entry in document["files"][0]["closure"]}["libused.so"] == (
        "/app/lib/libused.so"
    )


def test_a_root_that_is_not_there_is_refused(torchlink: Torchlink, shop: Path, tmp_path: Path) -> None:
    for root in (tmp_path / "nosuch", shop / "sound"):
        shown = torchlink("lint", "--root", root, shop / "sound")
        assert (shown.code, shown.out) == (2, "")
        assert f"--root: no such directory: {root}." in shown.err


def test_an_empty_word_is_not_the_current_directory(torchlink: Torchlink, shop: Path) -> None:
    for words in (
        ("lint", ""),
        ("lint", shop / "sound", "--", ""),
        ("lint", "--root", "", shop / "sound"),
        ("lint", "--root=", shop / "sound"),
        ("find", "--libtorch", ""),
        ("flags", "--cxx", "--libtorch", ""),
        ("verify", ""),
        ("bundle", shop / "sound", ""),
        ("cmake", "prefix", "--libtorch", ""),
    ):
        shown = torchlink(*words)
        assert (shown.code, shown.out) == (2, ""), words
        assert "An empty argument names no file or directory." in shown.err, words


def test_a_bad_target_in_the_settings_names_their_file(
    torchlink: Torchlink, shop: Path, tmp_path: Path
) -> None:
    (tmp_path / "torchlink.toml").write_text('[lint]\ntarget = "debiam:12"\n')
    shown = torchlink("lint", shop / "sound")
    assert shown.code == 2
    assert "torchlink.toml: lint.target is invalid: Unknown target: debiam:12." in shown.err
    assert "debian:12" in shown.err
