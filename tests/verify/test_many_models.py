"""Many models in one call: which are found, what becomes of the bad ones, and every form of the report."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import needed, until
from torchlink.paths import data_dir
from torchlink.verify import session

torch = needed("torch")

from torch import Tensor, nn  # noqa: E402 - needs torch

from tests.verify.small_models import Mlp, save  # noqa: E402 - needs torch
from tests.verify.test_bad_models import AlwaysCrashes  # noqa: E402 - needs torch
from tests.verify.test_killed import Endless  # noqa: E402 - needs torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result
    from torchlink.process import Child

pytestmark = pytest.mark.compile
TINY = data_dir("templates") / "loader" / "tiny.pt"
ONLY_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="forked loaders and their limits are Linux's")


class Hungry(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ones(3_000_000_000, dtype=torch.uint8)[:2] + x[0].int()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good models in a directory and below it, one that hangs, one that crashes, one that is none."""
    directory = tmp_path_factory.mktemp("models")
    (directory / "sub").mkdir()
    for name in ("a.pt", "c.pth", "sub/d.ts", "sub/e.pt"):
        shutil.copy(TINY, directory / name)
    save(Endless(), directory / "b-hangs.pt")
    save(AlwaysCrashes(), directory / "f-crashes.pt")
    (directory / "g-no-model.pt").write_text("nothing")
    (directory / "README.md").write_text("not looked at")
    (directory / "sub" / "loop").symlink_to(".")
    return directory


def names(report: dict[str, Any]) -> list[str]:
    return [Path(model["path"]).name for model in report["models"]]


@ONLY_LINUX
@pytest.mark.parametrize("jobs", ["1", "3"])
def test_a_crash_a_hang_and_no_model_are_failures_of_their_own(
    verify: Callable[..., Result], models: Path, jobs: str, tmp_path: Path
) -> None:
    junit = tmp_path / "j.xml"
    done = verify(models, "--input", "float32[1,4]", "--timeout", "5", "-j", jobs, "--json", "--junit", junit)
    report = json.loads(done.out)
    assert done.code == 2
    assert report["summary"] == {"ok": 4, "failed": 3, "skipped": 0}
    assert names(report) == ["a.pt", "b-hangs.pt", "c.pth", "f-crashes.pt", "g-no-model.pt", "d.ts", "e.pt"]
    bad = {
        Path(model["path"]).name: (model["error"]["code"], model["stage"], model["signal"])
        for model in report["models"]
        if model["error"]
    }
    assert bad == {
        "b-hangs.pt": ("timed-out", "forward", "SIGKILL"),
        "f-crashes.pt": ("run-failed", "forward", "SIGSEGV"),
        "g-no-model.pt": ("not-a-model", "read", None),
    }
    hung = next(model for model in report["models"] if model["path"].endswith("b-hangs.pt"))
    assert hung["seconds"] >= 5
    assert re.search(rf'b-hangs\.pt" time="{hung["seconds"]:.3f}"', junit.read_text())
    good = next(model for model in report["models"] if model["error"] is None)
    assert (good["ok"], good["stage"], good["signal"], len(good["again_ms"])) == (True, None, None, 3)


@ONLY_LINUX
def test_one_loader_process_serves_them_all(
    verify: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[session.Session] = []
    start = session.Session._start

    def counted(own: session.Session) -> None:
        started.append(own)
        start(own)

    monkeypatch.setattr(session.Session, "_start", counted)
    for number in range(6):
        shutil.copy(TINY, tmp_path / f"{number}.pt")
    verify(TINY)
    started.clear()
    assert verify(tmp_path, "-j", "1").code == 0
    assert len(started) == 1


@ONLY_LINUX
@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no twins on this machine")
def test_the_other_workers_get_twins_of_the_first_loader(
    verify: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[session.Session] = []
    twins: list[session.Session] = []
    start, twin = session.Session._start, session.Session.twin

    def counted(own: session.Session) -> None:
        started.append(own)
        start(own)

    def kept(own: session.Session, process: Child) -> session.Session:
        twins.append(twin(own, process))
        return twins[-1]

    for number in range(6):
        shutil.copy(TINY, tmp_path / f"{number}.pt")
    save(Endless(), tmp_path / "1-hangs.pt")
    save(AlwaysCrashes(), tmp_path / "2-crashes.pt")
    verify(TINY)
    monkeypatch.setattr(session.Session, "_start", counted)
    monkeypatch.setattr(session.Session, "twin", kept)
    words = ("--input", "float32[1,4]", "--timeout", "5", "--json")
    report = json.loads(verify(tmp_path, "-j", "3", *words).out)
    bad = {name for name, model in zip(names(report), report["models"], strict=True) if not model["ok"]}
    assert bad == {"1-hangs.pt", "2-crashes.pt"}
    assert len(twins) == 2
    assert all(own._process.poll() is not None for own in twins)
    assert len(started) <= 2, "the first, and one after the loader that was killed because its model hung"


def test_globs_and_directories_are_taken_apart(
    verify: Callable[..., Result], models: Path, tmp_path: Path
) -> None:
    report = json.loads(verify(models / "sub", str(models / "*.pth"), "--json").out)
    assert names(report) == ["d.ts", "e.pt", "c.pth"]
    report = json.loads(verify(str(models / "**" / "[ade].*t*"), "--json").out)
    assert names(report) == ["a.pt", "d.ts", "e.pt"]
    nothing = verify(str(tmp_path / "*.pt"))
    assert (nothing.code, "no model matches this pattern" in nothing.err) == (2, True)
    (tmp_path / "empty").mkdir()
    empty = verify(tmp_path / "empty")
    assert (empty.code, "no model in this directory" in empty.err) == (2, True)
    shutil.copy(TINY, tmp_path / "[1].pt")
    assert verify(tmp_path / "[1].pt").code == 0


def test_each_model_has_a_line_and_quiet_leaves_the_good_ones_out(
    verify: Callable[..., Result], models: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.pt").write_text("nothing")
    words = (models / "sub", tmp_path, "-j", "2")
    lines = verify(*words).out.splitlines()
    assert sum(line.startswith("ok      ") for line in lines) == 2
    assert any(line.startswith(f"FAILED  {tmp_path / 'x.pt'}") for line in lines)
    assert lines[-1] == f"2 of 3 models ok, 1 FAILED: {tmp_path / 'x.pt'}"
    quiet = verify(*words, "--quiet").out.splitlines()
    assert not any(line.startswith("ok") for line in quiet)
    assert any(line.startswith("FAILED") for line in quiet)


@ONLY_LINUX
def test_a_model_that_needs_more_memory_than_it_may_have_says_so(
    verify: Callable[..., Result], tmp_path: Path
) -> None:
    save(Hungry(), tmp_path / "hungry.pt")
    shutil.copy(TINY, tmp_path / "tiny.pt")
    done = verify(tmp_path, "--input", "float32[1,4]", "--memory-limit", "1G", "--json")
    hungry, tiny = json.loads(done.out)["models"]
    assert done.code == 1
    assert (hungry["error"]["code"], hungry["stage"]) == ("memory-limit", "forward")
    assert "1024 MiB" in hungry["error"]["message"]
    assert tiny["ok"]
    alone = verify(tmp_path / "hungry.pt", "--input", "float32[1,4]", "--memory-limit", "1024")
    assert "1024 MiB" in alone.out
    assert verify(TINY, "--memory-limit", "much").code == 2


def test_shards_merge_into_the_report_of_the_whole(
    torchlink: Callable[..., Result], verify: Callable[..., Result], models: Path, tmp_path: Path
) -> None:
    words = (models / "sub", models / "a.pt", models / "g-no-model.pt", models / "c.pth")
    whole = verify(*words, "--json")
    for number in ("1", "2"):
        (tmp_path / number).write_text(verify(*words, "--shard", f"{number}/2", "--json").out)
    (tmp_path / "2.jsonl").write_text(verify(*words, "--shard", "2/2", "--jsonl", "-").out)
    one, other = json.loads(whole.out), torchlink("report", "merge", tmp_path / "2", tmp_path / "1")
    merged = json.loads(other.out)
    assert whole.code == other.code == 2
    assert names(merged) == names(one)
    assert set(merged) == set(one)
    assert merged["summary"] == one["summary"] == {"ok": 4, "failed": 1, "skipped": 0}
    for model, again in zip(one["models"], merged["models"], strict=True):
        assert set(model) == set(again)
        assert model["outputs"] == again["outputs"]
    from_lines = torchlink(
        "report", "merge", tmp_path / "1", tmp_path / "2.jsonl", "--junit", tmp_path / "j.xml"
    )
    assert names(json.loads(from_lines.out)) == names(one)
    assert len(ET.parse(tmp_path / "j.xml").findall(".//testcase")) == 5
    shown = torchlink("report", "merge", tmp_path / "1", tmp_path / "2", "--text").out
    assert "4 of 5 models ok, 1 FAILED" in shown
    missing = torchlink("report", "merge", tmp_path / "1")
    assert (missing.code, "shard 2 of 2 is missing" in missing.err) == (2, True)
    (tmp_path / "no").write_text("{}")
    assert torchlink("report", "merge", tmp_path / "no").code == 2
    merged["models"][0]["load_ms"] = 10**400
    (tmp_path / "huge").write_text(json.dumps(merged))
    assert "4 of 5 models ok" in torchlink("report", "merge", tmp_path / "huge", "--text").out


def test_a_run_is_resumed_where_it_was_stopped(
    verify: Callable[..., Result], models: Path, tmp_path: Path
) -> None:
    lines = tmp_path / "run.jsonl"
    own = tmp_path / "models"
    shutil.copytree(models / "sub", own, ignore=shutil.ignore_patterns("loop"))
    (own / "z.pt").write_text("nothing")
    first = verify(own, "--jsonl", lines, "--json")
    assert len([line for line in lines.read_text().splitlines() if '"event": "model"' in line]) == 3
    text = lines.read_text()
    kept = [line for line in text.splitlines() if "e.pt" not in line and '"end"' not in line]
    lines.write_text("\n".join(kept) + '\n{"schema": 1, "event": "mod')
    again = verify(own, "--resume", lines, "--json")
    assert "2 of 3 models are not run again" in again.err
    before, after = json.loads(first.out), json.loads(again.out)
    assert names(before) == names(after)
    assert before["models"][0] == after["models"][0]
    assert before["models"][1]["load_ms"] != after["models"][1]["load_ms"]
    assert before["models"][2] == after["models"][2]
    assert again.code == first.code == 2
    all_of_it = verify(own, "--resume", lines, "--json")
    assert "3 of 3 models are not run again" in all_of_it.err
    os.utime(own / "d.ts", ns=(1, 1))
    assert "2 of 3" in verify(own, "--resume", lines).err
    assert "0 of 3" in verify(own, "--resume", lines, "--input", "float32[2,4]").err


def test_junit_has_a_case_for_each_model(verify: Callable[..., Result], models: Path, tmp_path: Path) -> None:
    file = tmp_path / "verify.xml"
    verify(models / "a.pt", models / "g-no-model.pt", "--junit", file)
    root = ET.parse(file).getroot()
    assert (root.get("tests"), root.get("errors"), root.get("failures")) == ("2", "1", "0")
    assert [case.get("name") for case in root.iter("testcase")] == [
        str(models / "a.pt"),
        str(models / "g-no-model.pt"),
    ]
    error = root.find(".//error")
    assert error is not None
    assert error.get("type") == "not-a-model"


def test_github_gets_an_annotation_for_a_failed_model(
    verify: Callable[..., Result], models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(models))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    out = verify(models / "a.pt", models / "g-no-model.pt", "--github").out
    assert "\n::error file=g-no-model.pt,title=torchlink verify::" in out
    assert "g-no-model" in (tmp_path / "summary.md").read_text()


def test_tables_of_the_settings_give_models_their_options(
    verify: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    save(Mlp(), tmp_path / "models" / "mlp.pt")
    shutil.copy(TINY, tmp_path / "models" / "tiny.pt")
    shutil.copy(TINY, tmp_path / "models" / "other.pt")
    (tmp_path / "torchlink.toml").write_text(
        '[[model]]\npath = "models/*.pt"\ntimeout = 60\ninputs = ["float32[2,4]"]\n'
        '[[model]]\npath = "models/mlp.pt"\ninputs = ["float32[3,6]"]\n'
        '[[model]]\npath = "**/other.pt"\nskip = "needs a GPU"\n'
    )
    monkeypatch.chdir(tmp_path)
    done = verify("--json", "--junit", "j.xml")
    report = json.loads(done.out)
    assert done.code == 0
    assert report["summary"] == {"ok": 2, "failed": 0, "skipped": 1}
    shown = {Path(model["path"]).name: model for model in report["models"]}
    assert shown["mlp.pt"]["inputs"][0]["input"] == "float32[3,6]"
    assert shown["tiny.pt"]["inputs"][0]["input"] == "float32[2,4]"
    assert shown["other.pt"]["skipped"] == "needs a GPU"
    assert shown["other.pt"]["ok"] is None
    skipped = ET.parse("j.xml").find(".//skipped")
    assert skipped is not None
    assert skipped.get("message") == "needs a GPU"
    given = json.loads(verify("models/tiny.pt", "--input", "float32[5,4]", "--json").out)
    assert given["models"][0]["inputs"][0]["input"] == "float32[5,4]"
    (tmp_path / "torchlink.toml").write_text('[[model]]\npath = "*.pt"\ntimout = 1\n')
    wrong = verify()
    assert wrong.code == 2
    assert "torchlink.toml: model[0].timout is not a setting of torchlink" in wrong.err


@pytest.mark.parametrize(
    ("shard", "others", "said"),
    [
        ({"number": 1, "of": 10**12, "models": 1}, (), "2, 3, 4, 5, 6, 7, 8, 9 and 999999999991 more of 10"),
        ({"number": True, "of": True, "models": 1}, (), "its shard number is invalid"),
        ({"number": 1, "of": 2, "models": 1}, ({"number": 2, "of": 2, "models": 3},), "a shard of 3 models"),
    ],
)
def test_shards_that_do_not_belong_together_are_one_error(
    torchlink: Callable[..., Result], tmp_path: Path, shard: object, others: tuple[object, ...], said: str
) -> None:
    files = []
    for number, each in enumerate((shard, *others)):
        report = {
            "schema": 1,
            "ok": True,
            "libtorch": {"version": []},
            "models": [{"path": "m"}],
            "shard": each,
        }
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(report))
    done = torchlink("report", "merge", *files)
    assert done.code == 2
    assert said in done.err
    assert len(done.err) < 1000
    (tmp_path / "whole.json").write_text(
        '{"schema":1,"ok":true,"libtorch":{"version":[[]]},"models":[{"path":1}]}'
    )
    assert torchlink("report", "merge", tmp_path / "whole.json", "--junit", tmp_path / "j.xml").code == 0


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        ('path = "*.pt"\ndevice = "cudaa"', (), "torchlink.toml: model[0]: --device cudaa is not known"),
        ('path = "no/*.pt"', (), "torchlink.toml: model[0]: no/*.pt: no model matches"),
        ('path = "*.pt"\nexpect = "no.pt"', (), "torchlink.toml: model[0]: Cannot read"),
        ('path = "*.pt"\ninputs = ["float32[2"]', ("tiny.pt",), "model[0]: Cannot read the input"),
        ('path = "*.pt"\nmethod = "no"\ninputs = ["3"]', (), "model[0]: tiny.pt has no method named no"),
        ('path = "*.pt"\ntimeout = 9', ("tiny.pt", "--device", "cudaa"), "torchlink: --device cudaa is not"),
        ('path = "*.pt"\ntimeout = 9', ("no/*.pt",), "torchlink: no/*.pt: no model matches"),
    ],
)
def test_what_is_wrong_with_an_option_names_the_table_that_it_is_from(
    verify: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    options: tuple[str, ...],
    said: str,
) -> None:
    shutil.copy(TINY, tmp_path / "tiny.pt")
    (tmp_path / "torchlink.toml").write_text(f"[[model]]\n{table}\n")
    monkeypatch.chdir(tmp_path)
    done = verify(*options)
    assert done.code == 2
    assert said in done.err


def running_in(group: int) -> list[str]:
    """The processes of a group, but for those that have ended and wait to be reaped by whoever inherits them."""
    stats = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            stats.append(file.read_text().rpartition(")")[2].split())
        except OSError:
            continue
    return [" ".join(stat) for stat in stats if int(stat[2]) == group and stat[0] not in "ZX"]


@ONLY_LINUX
def test_ctrl_c_ends_everything_and_reports_what_is_done(
    torch_root: Path, private_cache: Path, models: Path, tmp_path: Path
) -> None:
    for name in ("a.pt", "b.pt"):
        shutil.copy(TINY, tmp_path / name)
    save(Endless(), tmp_path / "z.pt")
    words = [
        "verify",
        str(tmp_path),
        "-j",
        "2",
        "--input",
        "float32[1,4]",
        "--json",
        "--jsonl",
        str(tmp_path / "l"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "torchlink", *words, "--libtorch", str(torch_root)],
        env={**os.environ, "TORCHLINK_CACHE_DIR": str(private_cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    lines = tmp_path / "l"
    until(lambda: lines.is_file() and lines.read_text().count('"event": "model"') == 2)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    report = json.loads(out)
    assert (names(report), report["interrupted"], report["ok"]) == (["a.pt", "b.pt"], True, False)
    until(lambda: not running_in(process.pid))
