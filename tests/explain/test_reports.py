"""What the reports of `torchlink explain` say, and that each page, link and place in them is real."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.explain.own import own_cause
from torchlink.errors import FileError
from torchlink.explain import causes
from torchlink.paths import data_dir

if TYPE_CHECKING:
    from pathlib import Path

TORCHLINK = [sys.executable, "-m", "torchlink"]
EXPLAIN = [*TORCHLINK, "explain", "--no-machine-facts"]
MISSING = "./app: error while loading shared libraries: libtorch_cpu.so: cannot open shared object file: No such file"
CAUSE = "torch-lib-not-found-runtime"
CRASH = "terminate called after throwing an instance of 'c10::Something'"
MINE = own_cause(r"libmine\.so: cannot open shared object")


def explained(
    where: Path, *arguments: str, text: str = "", code: int = 0, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    environment.pop("TORCHLINK_DOCS_URL", None)
    done = subprocess.run(
        [*EXPLAIN, *arguments],
        input=text,
        cwd=where,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done
    return done


@pytest.mark.parametrize("site", ["", "https://docs.example.org"])
def test_the_summary_links_only_addresses(site: str, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text(f"starting\n{MISSING}\n")
    explained(
        tmp_path,
        "--format",
        "github",
        "run.log",
        GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md"),
        TORCHLINK_DOCS_URL=site,
    )
    summary = (tmp_path / "summary.md").read_text()
    assert (f"]({site}/causes/{CAUSE}/)" in summary) is bool(site)
    assert (f"<code>torchlink docs causes/{CAUSE}</code>" in summary) is not bool(site)
    assert "](torchlink" not in summary
    assert "run.log&#58;2&#58; ./app" in summary


def test_what_is_recognised_has_its_place(tmp_path: Path) -> None:
    (tmp_path / "one.log").write_text("".join("make\n" for _ in range(150)))
    (tmp_path / "two.log").write_text(f"starting\n{CRASH}\n")
    out = explained(tmp_path, "one.log", "two.log", code=1).stdout
    assert "| two.log:2: terminate called" in out
    assert "lines that speak" not in out
    assert "(152 lines read)" in out


def test_a_page_is_named_only_if_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "causes").mkdir()
    (tmp_path / "causes" / "mine.toml").write_text(MINE)
    (tmp_path / "torchlink.toml").write_text('[explain]\ncauses = "causes"\n')
    text = f"{MISSING}\nlibmine.so: cannot open shared object file\n"
    pages = {
        cause["id"]: cause["page"]
        for cause in json.loads(explained(tmp_path, "--json", text=text).stdout)["causes"]
    }
    assert pages == {CAUSE: f"torchlink docs causes/{CAUSE}", "mine": None}
    for form in ("text", "github"):
        out = explained(tmp_path, "--format", form, text=text).stdout
        assert f"causes/{CAUSE}" in out
        assert "causes/mine" not in out


def test_the_cause_of_the_documentation_is_one(tmp_path: Path) -> None:
    text = (data_dir("docs") / "explain.md").read_text()
    (example,) = re.findall(r"```toml\n(title = .*?)```", text, re.DOTALL)
    (tmp_path / "causes").mkdir()
    place = tmp_path / "causes" / "my-cause.toml"
    place.write_text(example)
    (tmp_path / "torchlink.toml").write_text('[explain]\ncauses = "causes"\n')
    log = "/usr/bin/ld: cannot find -lfrobnicator\n"
    assert "[my-cause, certain]" in explained(tmp_path, text=log).stdout
    for key in ("title", "stage", "text", "certainty", "lines", "for", "tool", "log"):  # all are required
        damaged = re.sub(rf"^{key} = .*\n", "", example, count=1, flags=re.MULTILINE)
        with pytest.raises(FileError, match=key) as error:
            causes.parse(damaged, place)
        assert "`torchlink docs explain`" in error.value.hint


def test_lines_that_say_the_same_are_shown_once(tmp_path: Path) -> None:
    error = "C++17 or later compatible compiler is required to use ATen."
    lines = [
        f"/t/include/ATen/ATen.h:5:2: error: #error {error}",
        f"    5 | #error {error}",
        f"/t/include/ATen/ATen.h:5:2: error: #error {error}",
        f"/t/include/ATen/Other.h:15:2: error: #error {error}",
    ]
    found = json.loads(explained(tmp_path, "--json", text="\n".join(lines)).stdout)
    (cause,) = found["causes"]
    assert [line["line"] for line in cause["evidence"]] == [1]
    other = "/t/include/torch/all.h:4:2: error: #error C++14 or later compatible compiler is required to use PyTorch."
    found = json.loads(explained(tmp_path, "--json", text="\n".join([*lines, other])).stdout)
    assert [line["line"] for line in found["causes"][0]["evidence"]] == [1, 5]


@pytest.mark.parametrize("form", ["text", "json", "github"])
def test_the_logs_that_can_be_read_are_explained(form: str, tmp_path: Path) -> None:
    (tmp_path / "app").write_bytes(b"\x7fELF\x02\x01" + bytes(64))
    (tmp_path / "run.log").write_text(f"{MISSING}\n")
    done = explained(tmp_path, "--format", form, "missing.log", "app", "run.log", code=2)
    errors = ["Cannot read missing.log: No such file or directory.", "app: not a log: it is an ELF binary."]
    assert all(error in done.stderr for error in errors)
    assert CAUSE in done.stdout
    if form == "json":
        assert [error["message"] for error in json.loads(done.stdout)["errors"]] == errors
    if form == "github":
        assert all(f"::error title=torchlink explain::{error}" in done.stdout for error in errors)


def test_what_is_no_program_cannot_be_started(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"PK")
    (tmp_path / "other").write_bytes(b"\x7fELF")
    (tmp_path / "other").chmod(0o755)
    for name, reason, hint in (
        (str(tmp_path), "it is a directory.", "Name a program in it"),
        ("./weights.pt", "Permission denied: it is not executable.", "chmod +x"),
        ("./other", "Exec format error.", "for this machine"),
        ("no-such-program", "No such file or directory.", "Install no-such-program"),
    ):
        done = explained(tmp_path, "--", name, code=2)
        assert done.stderr.startswith(f"torchlink: Cannot start {name}: {reason}\n")
        assert hint in done.stderr
