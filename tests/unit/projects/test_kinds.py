"""The registry of `torchlink new`: what each kind.toml says, and the names of projects."""

import subprocess
from pathlib import Path

import pytest

from torchlink.errors import UsageError
from torchlink.paths import data_dir
from torchlink.projects.kinds import BUILDS, DESCRIPTION, FORMS, Kind, kind_named, kinds
from torchlink.projects.naming import FITTING, PROBLEMS, name_for
from torchlink.projects.new import new_project
from torchlink.settings import toml_document

KEYS = {
    "kind", "language", "summary", "commands", "serves", "build", "name", "form", "libtorch", "aoti", "lint",
    "variants", "model", "system", "capi", "tools", "pip", "shared",
}  # fmt: skip
FILES = sorted(data_dir("examples").glob(f"*/{DESCRIPTION}"))


def a_kind(naming: str, form: str) -> Kind:
    return Kind(
        name="k",
        language="C++",
        summary="s",
        commands=("a", "b", "c"),
        serves=False,
        build="cmake",
        capi=False,
        naming=naming,
        form=form,
        libtorch=None,
        aoti=False,
        lint=(),
        variants=(),
        tools=(),
        system=(),
        pip=(),
        model="",
        directory=Path(),
        shared={},
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_a_description_has_only_known_keys_and_values(file: Path) -> None:
    table = toml_document(file.read_text(encoding="utf-8"))
    assert set(table) <= KEYS
    assert table["build"] in BUILDS
    assert table.get("form", "cmake") in FORMS
    assert table["name"] == "directory" or table["name"].split(":")[0] in {"fixed", "default"}
    assert len(table["commands"]) == 3, "build, test, run"
    if table["name"] == "directory":
        assert not any("{name}" in command for command in table["commands"]), "--list does not know the name"
    usual = table["name"].partition(":")[2]
    assert not usual or not PROBLEMS[table.get("form", "cmake")](usual)
    assert not table["summary"].endswith(".")


def test_kinds_have_different_names() -> None:
    names = [kind.name for kind in kinds()]
    assert len(names) == len(set(names))


def test_shared_files_exist_once() -> None:
    """A file of two kinds is in one of their directories, and the other names it under `[shared]`."""
    for kind in kinds():
        for name, file in kind.shared.items():
            assert file.is_file(), f"{kind.name}: {name}"
            assert not (kind.directory / name).exists(), f"{kind.name}: {name}"
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=data_dir("examples"), capture_output=True, text=True, check=False
    ).stdout
    places: dict[bytes, list[str]] = {}
    for name in tracked.split("\0")[:-1]:
        if not name.endswith(".gitignore"):  # git reads it where it is
            places.setdefault((data_dir("examples") / name).read_bytes(), []).append(name)
    assert not [names for names in places.values() if len(names) > 1]


def test_a_project_has_the_shared_files_of_its_kind() -> None:
    """Treated as its own: rendered, laid over the project for a variant, and in the place that kind.toml names."""
    kind = kind_named("python-extension")
    ((name, file),) = kind.shared.items()
    assert name == "variants/stable-abi/example.py.j2"
    shared = new_project(kind, "ops", None, None, "stable-abi").files["example.py"]
    assert shared == new_project(kind, "ops", None, None, "tensors").files["example.py"]
    assert shared == file.read_text().replace("{{ name }}", "ops")
    assert shared != new_project(kind, "ops", None, None, "plain").files["example.py"]


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="'no-such' is not a kind"):
        kind_named("no-such")


@pytest.mark.parametrize(
    ("form", "directory", "name"),
    [
        ("cmake", "my app", "my-app"),
        ("cmake", "torch", "torch-app"),
        ("cmake", "2 models", "app-2-models"),
        ("cmake", "ü", "app"),
        ("identifier", "my-ops", "my_ops"),
        ("identifier", "json", "json_app"),
        ("identifier", "class", "class_app"),
        ("identifier", "template", "template_app"),
        ("identifier", "3d", "app_3d"),
        ("identifier", "$(reboot)", "reboot"),
        ("nim", "My App", "my_app"),
    ],
)
def test_a_directory_name_is_made_to_fit(form: str, directory: str, name: str) -> None:
    assert name_for(a_kind("directory", form), None, Path("/x") / directory) == name
    assert not PROBLEMS[form](name)
    assert FITTING[form](name) == name


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("cmake", "a b"),
        ("cmake", "test"),
        ("cmake", ""),
        ("cmake", "a\nb"),
        ("cmake", "x" * 101),
        ("identifier", "my-ops"),
        ("identifier", "torch"),
        ("identifier", "json"),
        ("identifier", "int"),
        ("identifier", "é"),
        ("nim", "My App"),
    ],
)
def test_an_invalid_name_is_refused(form: str, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a k"):
        name_for(a_kind("directory", form), name, Path("/x/y"))


def test_a_fixed_name_stays() -> None:
    kind = a_kind("fixed:server", "cmake")
    assert name_for(kind, None, Path("/x/y")) == "server"
    assert name_for(kind, "server", Path("/x/y")) == "server"
    with pytest.raises(UsageError, match="is always called server"):
        name_for(kind, "other", Path("/x/y"))


def test_a_usual_name_gives_way() -> None:
    kind = a_kind("default:app", "cmake")
    assert name_for(kind, None, Path("/x/y")) == "app"
    assert name_for(kind, "other", Path("/x/y")) == "other"
