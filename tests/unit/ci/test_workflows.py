"""`.github/workflows`: valid by GitHub's schema, with commands that exist in this checkout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.schemas import public_schema

REPOSITORY = Path(__file__).parent.parent.parent.parent
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))


def read(path: Path) -> Any:
    """A workflow; YAML 1.1 reads the key `on` as true."""
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in workflow.items()}


def scripts(workflow: Any) -> list[str]:
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_fits_the_public_schema(path: Path) -> None:
    workflow = read(path)
    schema = public_schema("github-workflow")
    for job in workflow["jobs"].values():
        # The schema lists the runners of its own day; which there are now, only GitHub knows.
        assert re.fullmatch(r"ubuntu-\d\d\.04", job["runs-on"]) or "matrix.os" in job["runs-on"]
        job["runs-on"] = "ubuntu-latest"
        assert job.get("permissions", {}).pop("attestations", "write") == "write"  # newer than the schema
    jsonschema.validate(workflow, schema)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_writes_no_input_into_a_script_and_may_only_read(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert not [script for script in scripts(workflow) if "${{" in script]
    assert all(0 < job["timeout-minutes"] <= 90 for job in workflow["jobs"].values())


def test_ci_runs_what_a_checkout_has() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for script in scripts(read(REPOSITORY / ".github" / "workflows" / "ci.yml")):
        target = re.fullmatch(r"make (\w+)", script)
        assert (
            re.search(rf"^{target[1]}:", makefile, re.MULTILINE)
            if target
            else (REPOSITORY / script).is_file()
        )


def test_only_the_publishing_job_gets_a_token_for_pypi_and_it_runs_no_script() -> None:
    jobs = read(REPOSITORY / ".github" / "workflows" / "release.yml")["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert not [step for step in jobs["publish"]["steps"] if "run" in step]
    assert jobs["publish"]["environment"]["name"] == "pypi"
