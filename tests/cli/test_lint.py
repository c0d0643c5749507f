"""`torchlink lint` on real binaries: what it takes, every form of output, and every exit code."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from tests.lint.bench import Bench
from tests.report.test_machine_formats import check_sarif  # noqa: F401 - a fixture
from torchlink.cli.lint import Format, Threshold
from torchlink.cli.lint_run import FORMATS, OPTIONS, SEVERITIES, Wishes, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

    Torchlink = Callable[..., Result]

pytestmark = pytest.mark.compile

USE = "int used(void);\nint main(void) { return used(); }"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`sound`, `idle` (a warning), `lost` (an error) and their libraries."""
    bench = Bench(tmp_path_factory.mktemp("shop"))
    used = bench.library("lib/libused.so", "int used(void) { return 1; }")
    idle = bench.library("lib/libidle.so", "int idle(void) { return 1; }")
    gone = bench.library("gone/libgone.so", "int gone(void) { return 1; }")
    rpath = "-Wl,-rpath,$ORIGIN/lib"
    bench.build("sound", USE, used, rpath)
    bench.build("idle", USE, used, "-Wl,--no-as-needed", idle, rpath)
    bench.build(
        "lost",
        f"int gone(void);\n{USE.replace('return used()', 'return used() + gone()')}",
        used,
        gone,
        rpath,
    )
    shutil.rmtree(gone.parent)
    return bench.directory


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the checkout do not count."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def rules(shown: Result) -> set[str]:
    """The rules that a JSON report names."""
    return {finding["rule"] for file in json.loads(shown.out)["files"] for finding in file["findings"]}


def test_exit_0_clean_1_findings_2_could_not_look(torchlink: Torchlink, shop: Path) -> None:
    assert torchlink("lint", shop / "sound").code == 0
    assert torchlink("lint", shop / "idle").code == 0
    assert torchlink("lint", "--fail-on", "warning", shop / "idle").code == 1
    assert torchlink("lint", shop / "lost").code == 1
    assert torchlink("lint", shop / "absent").code == 2
    assert torchlink("lint").code == 2
    assert torchlink("lint", "--fail-on", "bad", shop / "sound").code == 2


def test_several_files_are_all_judged_though_one_cannot_be(torchlink: Torchlink, shop: Path) -> None:
    shown = torchlink("lint", "--json", shop / "lost", shop / "absent", shop / "sound")
    assert shown.code == 2
    files = json.loads(shown.out)["files"]
    assert [Path(file["path"]).name for file in files] == ["lost", "absent", "sound"]
    assert "No such file" in files[1]["not_judged"][0]


def test_text_says_what_where_and_how_to_mend(torchlink: Torchlink, shop: Path) -> None:
    shown = torchlink("lint", shop / "lost")
    assert "library-not-found  libgone.so" in shown.out
    assert "fix: " in shown.out
    assert shown.out.endswith("1 error in 1 file.\n")
    assert "searched for" not in shown.out
    assert "searched for libgone.so" in torchlink("lint", "-v", shop / "lost").out


def test_tree_shows_how_each_library_is_found(torchlink: Torchlink, shop: Path) -> None:
    shown = torchlink("lint", "--tree", "-v", shop / "lost")
    assert shown.code == 1
    assert "RUNPATH $ORIGIN/lib of" in shown.out
    assert "NOT FOUND" in shown.out
    assert "library-not-found" in shown.out


def test_json_holds_to_its_schema(torchlink: Torchlink, shop: Path) -> None:
    for words in (("--json",), ("--format", "json")):
        document = json.loads(torchlink("lint", *words, shop / "lost").out)
        assert document["schema"] == 1
        assert document["summary"] == {"error": 1, "warning": 0, "note": 0, "unreadable": 0}
        (file,) = document["files"]
        assert set(file["findings"][0]) == {"rule", "severity", "subject", "message", "fix", "evidence"}
        assert {"name", "path", "how", "needed_by"} <= set(file["closure"][0])


def test_an_error_is_json_where_json_was_asked_for(torchlink: Torchlink, shop: Path) -> None:
    shown = torchlink("lint", "--json", shop / "absent")
    assert (shown.code, shown.err) == (2, "")
    assert json.loads(shown.out)["error"]["code"] == "file"


def test_sarif_is_valid(torchlink: Torchlink, shop: Path, check_sarif: Callable[[str], None]) -> None:  # noqa: F811
    shown = torchlink("lint", "--format", "sarif", shop / "lost", shop / "idle", shop / "sound")
    assert shown.code == 1
    check_sarif(shown.out)
    (run,) = json.loads(shown.out)["runs"]
    assert {result["ruleId"] for result in run["results"]} == {"library-not-found", "unused-library"}
    assert all(rule["help"]["markdown"] for rule in run["tool"]["driver"]["rules"])


def test_github_gets_annotations_and_a_summary(
    torchlink: Torchlink, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(shop))
    shown = torchlink("lint", "--format", "github", shop / "lost")
    assert shown.code == 1
    assert "::error file=lost," in shown.out
    assert "library-not-found" in (tmp_path / "summary.md").read_text()


def test_junit_is_xml_with_a_failure(torchlink: Torchlink, shop: Path) -> None:
    shown = torchlink("lint", "--format", "junit", shop / "lost", shop / "sound")
    suites = ET.fromstring(shown.out)
    assert [suite.get("failures") for suite in suites.iter("testsuite")] == ["1", "0"]


def test_the_page_is_written_beside_the_text(torchlink: Torchlink, shop: Path, tmp_path: Path) -> None:
    shown = torchlink("lint", "--html", tmp_path / "r.html", shop / "lost")
    assert shown.code == 1
    assert "library-not-found" in shown.out
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "libgone.so" in page
    assert torchlink("lint", "--html", tmp_path / "no" / "r.html", shop / "lost").code == 2


def test_two_forms_for_one_output_are_refused(torchlink: Torchlink, shop: Path) -> None:
    shown = torchlink("lint", "--tree", "--format", "sarif", shop / "sound")
    assert shown.code == 2
    assert "do not go together" in shown.err


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
    mended = tmp_path / "lost"
    shutil.copy(shop / "sound", mended)
    assert "is gone" in torchlink("lint", "--baseline", known, mended).out
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
        assert f"The root {root} is no such directory." in shown.err


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
        assert "The empty word names no file or directory." in shown.err, words


def test_the_only_file_is_in_a_report_for_ci_though_it_cannot_be_judged(
    torchlink: Torchlink, shop: Path
) -> None:
    shown = torchlink("lint", "--format", "github", shop / "absent")
    assert shown.code == 2
    assert shown.out.startswith("::error file=")
    shown = torchlink("lint", "--format", "sarif", shop / "absent")
    assert shown.code == 2
    assert json.loads(shown.out)["runs"][0]["invocations"][0]["executionSuccessful"] is False
    shown = torchlink("lint", "--format", "junit", shop / "absent")
    assert (shown.code, ET.fromstring(shown.out).get("errors")) == (2, "1")


def test_a_bad_target_in_the_settings_names_their_file(
    torchlink: Torchlink, shop: Path, tmp_path: Path
) -> None:
    (tmp_path / "torchlink.toml").write_text('[lint]\ntarget = "debiam:12"\n')
    shown = torchlink("lint", shop / "sound")
    assert shown.code == 2
    assert (
        "torchlink.toml: lint.target cannot be used: The target debiam:12 is no system that torchlink knows."
        in shown.err
    )
    assert "debian:12" in shown.err


def test_a_directory_stands_for_all_programs_and_libraries_in_it(torchlink: Torchlink, shop: Path) -> None:
    shown = torchlink("lint", "--json", shop)
    names = [Path(file["path"]).name for file in json.loads(shown.out)["files"]]
    assert names == ["idle", "lost", "sound", "libidle.so", "libused.so"]


def test_a_wheel_is_judged_under_its_own_name(torchlink: Torchlink, shop: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "mine-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(shop / "lost", "mine/bin/lost")
        archive.write(shop / "lib/libused.so", "mine/bin/lib/libused.so")
        archive.writestr("mine/__init__.py", "")
    shown = torchlink("lint", "--json", wheel)
    files = json.loads(shown.out)["files"]
    assert [file["path"] for file in files] == [f"{wheel}/mine/bin/lost", f"{wheel}/mine/bin/lib/libused.so"]
    assert shown.code == 1
    assert files[0]["closure"][1]["path"] == f"{wheel}/mine/bin/lib/libused.so"
    assert "torchlink-lint-" not in shown.out


def test_text_of_ldd_comes_through_a_pipe_or_a_file(shop: Path, tmp_path: Path, torchlink: Torchlink) -> None:
    for name, code in (("sound", 0), ("lost", 1)):
        text = subprocess.run(["ldd", str(shop / name)], capture_output=True, text=True, check=True).stdout
        piped = subprocess.run(
            [sys.executable, "-m", "torchlink", "lint", "-"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert piped.returncode == code, piped.stdout + piped.stderr
        assert ("libgone.so" in piped.stdout) == bool(code)
        (tmp_path / "ldd.txt").write_text(text)
        assert torchlink("lint", "ldd.txt").code == code
    empty = subprocess.run(
        [sys.executable, "-m", "torchlink", "lint", "-"],
        input="",
        capture_output=True,
        text=True,
        check=False,
    )
    assert empty.returncode == 2
    assert "2>&1 | torchlink lint -" in empty.stderr


def damaged(source: Path, target: Path, kind: str) -> Path:
    """A copy of a program with something wrong."""
    blob = bytearray(source.read_bytes())
    if kind == "empty":
        blob.clear()
    elif kind == "cut":
        del blob[200:]
    elif kind == "half":
        del blob[len(blob) // 2 :]
    elif kind == "many segments":
        blob[56:58] = b"\xfe\xff"
    elif kind == "text":
        blob[:] = b"#!/bin/sh\necho hello\n"
    target.write_bytes(blob)
    return target


@pytest.mark.parametrize("kind", ["empty", "cut", "half", "many segments", "text"])
def test_a_damaged_file_is_one_sentence(torchlink: Torchlink, shop: Path, tmp_path: Path, kind: str) -> None:
    shown = torchlink("lint", damaged(shop / "sound", tmp_path / "app", kind))
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.startswith("torchlink: ")
    assert "fault of torchlink" not in shown.err
    assert len(shown.err.splitlines()) <= 2


def test_flipped_bits_never_end_in_a_fault(torchlink: Torchlink, shop: Path, tmp_path: Path) -> None:
    original = (shop / "sound").read_bytes()
    dice = random.Random(7)
    for _ in range(150):
        blob = bytearray(original)
        for _ in range(dice.choice((1, 4, 32))):
            place = dice.choice((dice.randrange(1024), dice.randrange(len(blob))))
            blob[place] ^= 1 << dice.randrange(8)
        (tmp_path / "app").write_bytes(blob)
        shown = torchlink("lint", tmp_path / "app")
        assert shown.code in {0, 1, 2}
        assert "fault of torchlink" not in shown.err, shown.err


@pytest.mark.parametrize("suffix", ["", ".whl", ".txt"])
def test_what_is_no_file_is_refused_without_waiting(
    torchlink: Torchlink, tmp_path: Path, suffix: str
) -> None:
    fifo = tmp_path / f"fifo{suffix}"
    os.mkfifo(fifo)
    shown = torchlink("lint", fifo)
    assert shown.code == 2
    assert "FIFO" in shown.err
    ring = tmp_path / f"ring{suffix}"
    ring.symlink_to(ring.name)
    assert torchlink("lint", ring).code == 2
    assert torchlink("lint", tmp_path / f"absent{suffix}").code == 2
    (tmp_path / "empty").mkdir()
    shown = torchlink("lint", tmp_path / "empty")
    assert shown.code == 2
    assert "holds no ELF" in shown.err
    (tmp_path / "bad.whl").write_bytes(b"PK\x03\x04 not really")
    assert "no readable wheel" in torchlink("lint", tmp_path / "bad.whl").err


def test_an_object_file_is_refused_and_a_static_program_explained(
    torchlink: Torchlink, tmp_path: Path
) -> None:
    bench = Bench(tmp_path)
    shown = torchlink("lint", bench.build("a.o", "int a;", "-c"))
    assert shown.code == 2
    assert "object file" in shown.err
    shown = torchlink("lint", bench.build("static", "int main(void) { return 0; }", "-static"))
    assert shown.code == 0
    assert "statically linked" in shown.out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_said(torchlink: Torchlink, shop: Path, tmp_path: Path) -> None:
    shutil.copy(shop / "sound", tmp_path / "app")
    (tmp_path / "app").chmod(0)
    shown = torchlink("lint", tmp_path / "app")
    assert shown.code == 2
    assert "Permission denied" in shown.err


PLAIN = [
    ["app"],
    ["--json", "app", "other"],
    ["app", "--select", "a,b", "--select=c", "--fail-on", "note"],
    ["-v", "--tree", "--", "-odd-name"],
    ["--root=/image", "--env", "A=B", "--env", "C=D=E", "--html", "r.html", "-"],
    ["--target", "debian:12", "--allowed-rpath", "$ORIGIN", "--format", "sarif", "app"],
    ["--config", "c.toml", "--baseline", "b", "--write-baseline", "w", "--ignore", "x", "--verbose", "app"],
]


@pytest.mark.parametrize("words", PLAIN, ids=" ".join)
def test_plain_words_are_read_as_typer_reads_them(words: list[str]) -> None:
    import typer

    from torchlink.cli.lint import app

    context = typer.main.get_command(app).make_context("lint", list(words))
    quick = plain(words)
    assert quick is not None
    told = dict.fromkeys(Wishes._fields) | context.params
    assert {name: bare(value) for name, value in quick._asdict().items()} == {
        name: bare(value) for name, value in told.items()
    }


def bare(value: object) -> object:
    """An option's value without the types that differ between the two ways."""
    if isinstance(value, (list, tuple)):
        return [str(each) for each in value] or None
    value = getattr(value, "value", value)
    return str(value) if isinstance(value, Path) else value


@pytest.mark.parametrize(
    "words",
    [[], ["--help"], ["-h"], ["--frmat", "x", "a"], ["a", "--root"], ["--fail-on", "x", "a"], ["-vv", "a"]],
)
def test_what_is_not_plain_is_left_to_typer(words: list[str]) -> None:
    assert plain(words) is None


def test_both_ways_know_the_same_options() -> None:
    import typer

    from torchlink.cli.lint import app

    known = {
        name
        for parameter in typer.main.get_command(app).params
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("-")
    }
    assert known - {"--help", "-h"} == set(OPTIONS)
    assert tuple(each.value for each in Format) == FORMATS
    assert tuple(each.value for each in Threshold) == SEVERITIES


def test_linting_does_not_import_typer(shop: Path) -> None:
    script = (
        "import sys\nfrom torchlink.cli.main import main\n"
        "main(sys.argv[1:])\nprint([name for name in ('typer', 'dataclasses', 'tomllib') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "lint", str(shop / "sound")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("[]\n")


def test_python_gets_the_same_report(shop: Path) -> None:
    import torchlink
    from torchlink.errors import FileError, UsageError
    from torchlink.lint.finding import Severity

    report = torchlink.lint([shop / "lost", str(shop / "idle")])
    assert report.fails(Severity.ERROR)
    assert [file.kind for file in report.files] == ["executable", "executable"]
    assert not torchlink.lint(shop / "lost", ignore=["library-*"]).fails(Severity.NOTE)
    assert torchlink.lint(str(shop / "sound"), target="glibc=2.2").fails(Severity.ERROR)
    with pytest.raises(UsageError):
        torchlink.lint(shop / "lost", select=["no-such-rule"])
    with pytest.raises(FileError):
        torchlink.lint(shop / "absent")
