"""`torchlink.toml` and `[tool.torchlink]`: what they say, and how they say it wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchlink.errors import FileError, UsageError
from torchlink.lint.finding import Severity
from torchlink.lint.policy.config import AllowEntry, LintConfig, load, parse
from torchlink.settings import find

RULES = ("library-not-found", "rpath-absolute", "rpath-build-tree", "two-openmp-runtimes")
FULL = """
[lint]
select = ["rpath-*", "library-not-found"]
ignore = ["rpath-build-tree"]
fail-on = "warning"
target = "debian:12"
allowed-rpath = ["/opt/torch", "$ORIGIN"]

[[lint.allow]]
rule = "rpath-absolute"
subject = "/opt/torch/*"
reason = "the image fixes this path"
"""


def test_every_setting_is_read() -> None:
    config = parse(FULL, Path("torchlink.toml"), rules=RULES)
    assert config == LintConfig(
        source=Path("torchlink.toml"),
        select=("rpath-*", "library-not-found"),
        ignore=("rpath-build-tree",),
        fail_on=Severity.WARNING,
        target="debian:12",
        allowed_rpath=("/opt/torch", "$ORIGIN"),
        allow=(AllowEntry("rpath-absolute", "/opt/torch/*", "the image fixes this path", "torchlink.toml"),),
    )


def test_pyproject_has_the_same_settings_below_tool_torchlink() -> None:
    text = FULL.replace("lint", "tool.torchlink.lint", 1).replace("[[lint.", "[[tool.torchlink.lint.")
    there = parse(text, Path("pyproject.toml"), rules=RULES)
    here = parse(FULL, Path("torchlink.toml"), rules=RULES)
    assert (there.select, there.ignore, there.fail_on, there.target) == (
        here.select,
        here.ignore,
        here.fail_on,
        here.target,
    )
    assert there.allow[0].origin == "pyproject.toml"


def test_an_empty_file_has_the_defaults() -> None:
    assert parse("", Path("torchlink.toml")) == LintConfig(source=Path("torchlink.toml"))


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("[lint]\nselct = []", "lint.selct", "Did you mean 'select'?"),
        ("[lint]\nfail_on = 'error'", "lint.fail_on", "Did you mean 'fail-on'?"),
        ("[lnt]\n", "lnt", "Did you mean 'lint'?"),
        ("[zzz]\n", "zzz", "Use one of: lint, model, explain."),
        ("lint = 3", "lint", "[lint]"),
        ("[lint]\nselect = 'rpath-absolute'", "lint.select", '["…"]'),
        ("[lint]\nselect = [1]", "lint.select[0]", '["…"]'),
        ("[lint]\nignore = ['']", "lint.ignore[0]", '["…"]'),
        ("[lint]\nselect = ['rpath-absolut']", "lint.select", "Did you mean 'rpath-absolute'?"),
        ("[lint]\nignore = ['q*']", "lint.ignore", "rules"),
        ("[lint]\nfail-on = 'erorr'", "lint.fail-on", "Did you mean 'error'?"),
        ("[lint]\nfail-on = true", "lint.fail-on", "fail-on"),
        ("[lint]\nfail-on = 'never'", "lint.fail-on", "note, warning, error"),
        ("[lint]\ntarget = 2", "lint.target", 'target = "…"'),
        ("[lint]\ntarget = ' '", "lint.target", 'target = "…"'),
        ("[lint]\ntarget = 'debiam:12'", "lint.target", "debian:12"),
        ("[lint]\nallowed-rpath = {}", "lint.allowed-rpath", '["…"]'),
        ("[lint]\nallowed-rpath = [2024-01-01]", "lint.allowed-rpath[0]", '["…"]'),
        ("[lint]\nallow = 'x'", "lint.allow", "[[lint.allow]]"),
        ("[lint]\nallow = ['x']", "lint.allow[0]", "lint.allow[0]"),
        ("[lint]\nallow = [{rule='rpath-absolute', subject='*'}]", "lint.allow[0]", "State why"),
        ("[lint]\nallow = [{rule='rpath-absolute', reason=''}]", "lint.allow[0].reason", "reason"),
        ("[lint]\nallow = [{reason='x'}]", "lint.allow[0]", "rule"),
        ("[lint]\nallow = [{rule='nonsense', reason='x'}]", "lint.allow[0].rule", "rules"),
        (
            "[lint]\nallow = [{rule='rpath-absolute', reson='x'}]",
            "lint.allow[0].reson",
            "Did you mean 'reason'?",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(text: str, key: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, Path("some/torchlink.toml"), rules=RULES)
    assert "some/torchlink.toml" in caught.value.message
    assert f"{key} " in caught.value.message
    assert hint in caught.value.hint


def test_broken_toml_is_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"torchlink\.toml is not valid TOML"):
        parse("[lint", Path("torchlink.toml"))


def test_the_table_of_pyproject_is_rejected_in_torchlink_toml() -> None:
    with pytest.raises(UsageError, match=r"belongs in pyproject\.toml"):
        parse("[tool.torchlink.lint]\nselect = []", Path("torchlink.toml"))


def test_pyproject_with_a_tool_that_is_not_a_table_has_the_defaults() -> None:
    assert parse("tool = 1", Path("pyproject.toml")).select == ()


def test_without_the_list_of_rules_any_name_is_accepted() -> None:
    assert parse("[lint]\nselect = ['of-tomorrow']", Path("torchlink.toml")).select == ("of-tomorrow",)


def test_the_nearest_file_upward_is_used(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "torchlink.toml").write_text("[lint]\ntarget = 'debian:10'")
    assert load(inner).target == "debian:10"
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.other]\n")
    assert load(inner).target == "debian:10"
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.torchlink.lint]\ntarget = 'debian:11'")
    assert load(inner).target == "debian:11"
    (tmp_path / "a" / "torchlink.toml").write_text("[lint]\ntarget = 'debian:12'")
    assert load(inner).target == "debian:12"
    assert find(inner) == tmp_path / "a" / "torchlink.toml"


def test_a_broken_pyproject_without_torchlink_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.other\n# torchlink is mentioned\n")
    assert find(tmp_path) != tmp_path / "pyproject.toml"
    (tmp_path / "pyproject.toml").write_text("[tool.torchlink.lint\n")
    with pytest.raises(UsageError, match="not valid TOML"):
        load(tmp_path)


def test_the_file_that_is_named_is_the_only_one_read(tmp_path: Path) -> None:
    (tmp_path / "torchlink.toml").write_text("[lint]\ntarget = 'glibc=2.31'")
    other = tmp_path / "other.toml"
    other.write_text("[lint]\ntarget = 'glibc=2.36'")
    assert load(tmp_path, other).target == "glibc=2.36"


@pytest.mark.parametrize("content", [None, b"\xff[lint]"])
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "torchlink.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileError, match=r"torchlink\.toml"):
        load(tmp_path, path)
