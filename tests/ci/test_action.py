"""`action.yml` and `.pre-commit-hooks.yaml`: valid, and safe with hostile inputs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import needed
from tests.schemas import public_schema

REPOSITORY = Path(__file__).parent.parent.parent
RECORDER = """\
#!{python}
import json, sys
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
print("{{}}")
sys.exit({status})
"""


@pytest.fixture(scope="module")
def action() -> Any:
    """Return the parsed action.yml."""
    return yaml.safe_load((REPOSITORY / "action.yml").read_text(encoding="utf-8"))


def step(action: Any, name: str) -> Any:
    return next(step for step in action["runs"]["steps"] if step["name"] == name)


def test_action_fits_the_public_schema(action: Any) -> None:
    import jsonschema

    jsonschema.validate(action, public_schema("github-action"))


def test_no_input_is_written_into_a_script(action: Any) -> None:
    for item in action["runs"]["steps"]:
        assert "${{" not in item.get("run", "")
        if "run" in item:
            assert item["shell"] == "bash"


def test_python_code_of_the_checkout_is_not_run(action: Any) -> None:
    for item in action["runs"]["steps"]:
        for line in item.get("run", "").splitlines():
            for argument in ("-m venv", "-m pip", "-c 'import"):
                assert argument not in line or f"-I {argument}" in line


def test_every_input_is_used_and_every_used_input_exists(action: Any) -> None:
    text = (REPOSITORY / "action.yml").read_text(encoding="utf-8")
    for name in action["inputs"]:
        assert f"inputs.{name}" in text
    assert action["inputs"]["files"]["required"] is True


class Runner:
    """Runs the action's step as the runner does: bash, inputs as environment, in a checkout."""

    def __init__(self, action: Any, directory: Path) -> None:
        self.script = step(action, "Run")["run"]
        self.checkout = directory / "check out"
        self.bin = directory / "bin"
        self.log = directory / "log"
        for place in (self.checkout / "build" / "sub", self.bin):
            place.mkdir(parents=True)
        for name in ("build/app", "build/sub/lib a.so", "build/sub/libb.so"):
            (self.checkout / name).touch()
        self.environment = {**os.environ, "BIN": str(self.bin), "RUNNER_TEMP": str(directory)}
        (self.bin / "python").symlink_to(sys.executable)

    def run(
        self,
        files: str,
        args: str = "",
        sarif: str = "",
        status: int | None = 0,
        mode: str = "lint",
        junit: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run the step with a torchlink that records its arguments and exits with `status`; None: with the real one."""
        fake = self.bin / "torchlink"
        text = RECORDER.format(python=sys.executable, log=str(self.log), status=status)
        fake.write_text(
            text if status is not None else f'#!/bin/sh\nexec {sys.executable} -m torchlink "$@"\n'
        )
        fake.chmod(0o755)
        script = self.checkout.parent / "step.sh"
        script.write_text(self.script)
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.checkout,
            env={
                **self.environment,
                "FILES": files,
                "ARGS": args,
                "SARIF": sarif,
                "MODE": mode,
                "JUNIT": junit,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


@pytest.fixture
def runner(action: Any, tmp_path: Path) -> Runner:
    return Runner(action, tmp_path)


def test_files_are_lines_and_globs_and_options_are_split_as_in_a_shell(runner: Runner) -> None:
    done = runner.run("build/app\r\n\n  build/**/*.so  \n", "--target debian:12 --env 'A=b c'")
    assert done.returncode == 0, done.stderr
    assert runner.calls() == [
        [
            *("lint", "--target", "debian:12", "--env", "A=b c", "--format", "github", "--"),
            *("build/app", "build/sub/lib a.so", "build/sub/libb.so"),
        ]
    ]


def test_nothing_in_an_input_is_run(runner: Runner) -> None:
    evil = "$(touch pwned) `touch pwned` ; touch pwned | & > pwned \\"
    done = runner.run(evil + "\n-rf\nbuild/ap?", '"$(touch pwned)" "`touch pwned`" "; touch pwned" "$HOME" *')
    assert done.returncode == 0, done.stderr
    assert not (runner.checkout / "pwned").exists()
    (call,) = runner.calls()
    assert call[1:6] == ["$(touch pwned)", "`touch pwned`", "; touch pwned", "$HOME", "*"]
    assert call[call.index("--") + 1 :] == [evil, "-rf", "build/app"]


def test_the_status_of_lint_is_the_status_of_the_step(runner: Runner) -> None:
    for status in (0, 1, 2):
        assert runner.run("build/app", status=status).returncode == status


def test_sarif_is_written_before_the_annotations_and_findings_do_not_stop_it(runner: Runner) -> None:
    done = runner.run("build/app", sarif="out put/lint.sarif", status=1)
    assert done.returncode == 1
    assert [call[2] for call in runner.calls()] == ["sarif", "github"]
    assert (runner.checkout / "out put" / "lint.sarif").read_text() == "{}\n"


def test_where_lint_cannot_look_both_outputs_come(runner: Runner) -> None:
    assert runner.run("build/app", sarif="lint.sarif", status=2).returncode == 2
    assert [call[2] for call in runner.calls()] == ["sarif", "github"]
    assert (runner.checkout / "lint.sarif").read_text() == "{}\n"


def test_an_unreadable_file_is_in_the_sarif_and_in_an_annotation(runner: Runner) -> None:
    done = runner.run("build/app\nnothing", sarif="lint.sarif", status=None)
    assert done.returncode == 2, done.stderr
    for name in ("build/app", "nothing"):
        assert f"::error file={name},title=torchlink lint could not check it::" in done.stdout
    (run,) = json.loads((runner.checkout / "lint.sarif").read_text())["runs"]
    assert run["invocations"][0]["executionSuccessful"] is False
    done = runner.run("nothing", "--select no-such-rule", sarif="lint.sarif", status=None)
    assert done.returncode == 2
    assert "no-such-rule" in done.stderr
    assert not (runner.checkout / "lint.sarif").exists()


def test_a_pattern_without_a_match_is_reported_by_lint(runner: Runner) -> None:
    runner.run("nothing/*.so")
    assert runner.calls()[0][-1] == "nothing/*.so"


def test_no_files_and_broken_options_are_errors(runner: Runner) -> None:
    done = runner.run(" \n\n")
    assert done.returncode == 2
    assert "::error title=torchlink::" in done.stdout
    done = runner.run("build/app", "--x 'unbalanced")
    assert done.returncode == 2
    assert "not closed" in done.stdout
    assert not runner.calls()


def test_models_are_verified(runner: Runner) -> None:
    done = runner.run("build/app\nmodels", "--timeout 60", mode="verify", junit="out put/r.xml")
    assert done.returncode == 0, done.stderr
    assert runner.calls() == [
        ["verify", "--timeout", "60", "--junit", "out put/r.xml", "--github", "--", "build/app", "models"]
    ]
    assert (runner.checkout / "out put").is_dir()
    assert runner.run("build/app", mode="verify", status=1).returncode == 1


@pytest.mark.compile
def test_a_file_that_is_no_model_is_an_annotation(runner: Runner, torch_root: Path) -> None:
    args = f"--libtorch '{torch_root}'"
    done = runner.run("build/app", args, mode="verify", junit="r.xml", status=None)
    assert done.returncode == 2, done.stderr
    assert "::error file=build/app,title=" in done.stdout
    assert (runner.checkout / "r.xml").read_text().count("<testcase") == 1


def test_a_log_is_explained(runner: Runner) -> None:
    log = "./app: error while loading shared libraries: libtorch_cpu.so: cannot open shared object file\n"
    (runner.checkout / "-build.log").write_text(log)
    assert runner.run("-build.log", "-v", mode="explain", status=1).returncode == 0, "no cause is no failure"
    assert runner.calls() == [["explain", "-v", "--format", "github", "./-build.log"]]
    assert runner.run("-build.log", mode="explain", status=2).returncode == 2
    done = runner.run("missing.log", mode="explain", status=None)
    assert done.returncode == 2
    assert done.stdout.startswith("::error title=torchlink explain::Cannot read missing.log: No such file"), (
        done
    )
    done = runner.run("*.log", "--no-machine-facts", mode="explain", status=None)
    assert done.stdout.startswith("::error title="), done


@pytest.mark.parametrize(
    ("mode", "others"),
    [("$(id)", {}), ("verify", {"sarif": "x"}), ("lint", {"junit": "x"}), ("explain", {"junit": "x"})],
)
def test_inputs_that_do_not_go_together_are_refused(
    runner: Runner, mode: str, others: dict[str, str]
) -> None:
    done = runner.run("build/app", mode=mode, **others)  # type: ignore[arg-type] # they are all str
    assert done.returncode == 2
    assert done.stdout.startswith("::error title=torchlink::")
    assert not runner.calls()


@pytest.mark.parametrize("version", ["1.0 --index-url x", "$(id)", "../x", "-e ."])
def test_a_version_that_is_no_release_number_is_refused(action: Any, tmp_path: Path, version: str) -> None:
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", step(action, "Install torchlink")["run"]],
        env={**os.environ, "VERSION": version, "RUNNER_TEMP": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "::error" in done.stdout


def test_the_hooks_are_valid_and_take_the_files_they_name(tmp_path: Path) -> None:
    needed("pre_commit")
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-manifest", str(REPOSITORY / ".pre-commit-hooks.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    from identify.identify import tags_from_path

    programs, libraries, models = yaml.safe_load(
        (REPOSITORY / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
    )
    program = tmp_path / "program"
    shutil.copy(os.path.realpath("/bin/true"), program)
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert set(programs["types"]) <= tags_from_path(str(program))
    assert not set(programs["types"]) <= tags_from_path(str(script))

    import re

    taken = ["libx.so", "a/libx.so.1.2", "mod.cpython-312-x86_64-linux-gnu.so", "x-1.0-py3-none-any.whl"]
    left = ["x.sor", "so", "x.so.py", "x.whl.txt"]
    assert all(re.search(libraries["files"], name) for name in taken)
    assert not any(re.search(libraries["files"], name) for name in left)
    assert all(re.search(models["files"], name) for name in ["a.pt", "b/c.pth", "e.pt2", "f.ptl"])
    assert not any(re.search(models["files"], name) for name in ["a.pt.py", "pt", "a.onnx", "typescript.ts"])
