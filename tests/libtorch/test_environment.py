"""The torch that an interpreter would import is found from files; the interpreter is started only if necessary."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.libtorch.trees import Fake, make, make_site, make_venv
from torchlink.errors import LibtorchUnusableError, ToolMissingError
from torchlink.libtorch.choose import choose
from torchlink.libtorch.environment import environment_around, environment_at
from torchlink.libtorch.inspect import inspect
from torchlink.libtorch.interpreter import environment_of, from_files
from torchlink.libtorch.packages import torch_in

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.compile


@pytest.fixture(autouse=True)
def no_user_site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user's own site-packages stay out; a test that wants one sets its own."""
    monkeypatch.setenv("PYTHONUSERBASE", str(tmp_path / "nobody"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.delenv("PYENV_VERSION", raising=False)


def test_a_virtual_environment_reads_its_own_packages_only(tmp_path: Path) -> None:
    make_venv(tmp_path / "venv")
    make_site(tmp_path / "base")
    environment = environment_of(str(tmp_path / "venv/bin/python"))
    assert environment.sites == (tmp_path / "venv/lib/python3.11/site-packages",)
    assert environment.python == tmp_path / "venv/bin/python3"


def test_a_virtual_environment_with_system_packages_reads_those_of_its_base_too(tmp_path: Path) -> None:
    make_site(tmp_path / "base")
    make_venv(
        tmp_path / "venv",
        **{"home": str(tmp_path / "base/bin"), "include-system-site-packages": "true"},
    )
    assert choose(python=str(tmp_path / "venv")).root == tmp_path / "base/lib/python3.11/site-packages/torch"


def test_a_real_virtual_environment_over_a_real_torch(tmp_path: Path, torch_root: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    site = next((tmp_path / "venv").glob("lib/python3*/site-packages"))
    (site / "linked.pth").write_text(f"# a comment\nimport sys\n{torch_root.parent}\n")
    found = choose(python=str(tmp_path / "venv/bin/python"))
    assert found.root == torch_root
    assert found.found_by == "--python"


def test_an_installation_is_recognised_by_its_landmark(tmp_path: Path) -> None:
    torch = make_site(tmp_path / "py", python="python3.12")
    (tmp_path / "py/lib/python3.12/os.py").touch()
    (tmp_path / "py/bin").mkdir()
    (tmp_path / "py/bin/python3.12").write_bytes(b"\x7fELF")
    (tmp_path / "py/bin/python3.12").chmod(0o755)
    (tmp_path / "elsewhere").symlink_to(tmp_path / "py/bin/python3.12")
    found = from_files(tmp_path / "elsewhere")
    assert found is not None
    assert torch.parent in found.sites


def test_only_one_of_several_pythons_is_meant(tmp_path: Path) -> None:
    make_site(tmp_path, python="python3.11")
    newer = make_site(tmp_path, python="python3.12")
    both = make(tmp_path / "lib/python3/dist-packages/torch")
    assert environment_at(tmp_path, "3.12").sites == (newer.parent, both.parent)


def test_the_user_site_goes_before_the_installations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = make_site(tmp_path / "user")
    system = make_site(tmp_path / "py")
    monkeypatch.setenv("PYTHONUSERBASE", str(tmp_path / "user"))
    assert environment_at(tmp_path / "py", "3.11").sites == (user.parent, system.parent)
    monkeypatch.setenv("PYTHONNOUSERSITE", "1")
    assert environment_at(tmp_path / "py", "3.11").sites == (system.parent,)


def test_pythonpath_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_venv(tmp_path / "venv")
    make_site(tmp_path / "venv")
    first = make(tmp_path / "first/torch")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "first"))
    assert choose(python=str(tmp_path / "venv/bin/python")).root == first


def test_a_shim_of_pyenv_is_followed_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyenv = tmp_path / "pyenv"
    for version in ("3.11.7", "3.12.1"):
        prefix = pyenv / "versions" / version
        short = version.rpartition(".")[0]
        make_site(prefix, python=f"python{short}")
        (prefix / f"lib/python{short}/os.py").touch()
        (prefix / "bin").mkdir()
        (prefix / f"bin/python{short}").write_bytes(b"\x7fELF")
        (prefix / "bin/python3").symlink_to(f"python{short}")
    (pyenv / "shims").mkdir()
    (pyenv / "shims/python3").write_text("#!/bin/sh\nexit 1\n")
    (pyenv / "version").write_text("3.11.7\n")
    (tmp_path / "project/below").mkdir(parents=True)
    (tmp_path / "project/.python-version").write_text("3.12\n")

    def prefix_of_shim() -> Path:
        found = from_files(pyenv / "shims/python3")
        assert found is not None
        return found.prefix

    monkeypatch.chdir(tmp_path)
    assert prefix_of_shim() == pyenv / "versions/3.11.7"
    monkeypatch.chdir(tmp_path / "project/below")
    assert prefix_of_shim() == pyenv / "versions/3.12.1"
    monkeypatch.setenv("PYENV_VERSION", "3.11.7")
    assert prefix_of_shim() == pyenv / "versions/3.11.7"


def test_a_wrapper_script_is_started_to_find_its_environment(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    site = next((tmp_path / "venv").glob("lib/python3*/site-packages"))
    torch = make(site / "torch")
    wrapper = tmp_path / "python-wrapper"
    wrapper.write_text(f'#!/bin/sh\nexec "{tmp_path}/venv/bin/python" "$@"\n')
    wrapper.chmod(0o755)
    assert choose(python=str(wrapper)).root == torch


def test_a_wrapper_that_sets_sys_path_is_started_to_read_it(tmp_path: Path) -> None:
    torch = make(tmp_path / "hidden/torch")
    wrapper = tmp_path / "python-wrapper"
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}/hidden" exec "{sys.executable}" -S "$@"\n')
    wrapper.chmod(0o755)
    assert choose(python=str(wrapper)).root == torch


def wrapper_of(python: str, tmp_path: Path) -> Path:
    """A directory with a `python3` that is a script, which therefore is started."""
    (tmp_path / "wrapped").mkdir()
    wrapper = tmp_path / "wrapped/python3"
    wrapper.write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


@pytest.fixture
def plain_python(tmp_path: Path) -> str:
    """An interpreter that reads user site-packages and has no torch: what runs the tests, less its venv."""
    base = os.path.realpath(sys.executable)
    probe = "import importlib.util as u, sys; sys.exit(bool(u.find_spec('torch')) or sys.prefix != sys.base_prefix)"
    if subprocess.run([base, "-I", "-c", probe], check=False).returncode:
        pytest.skip(f"{base} has a torch or is in a virtual environment")
    return base


@pytest.mark.parametrize("pythonpath", [None, "", ":/nowhere", ".", "/nowhere:"])
@pytest.mark.parametrize("how", ["--python", "PATH"])
def test_python_code_in_the_current_directory_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, pythonpath: str | None
) -> None:
    wrapper = wrapper_of(sys.executable, tmp_path)
    trap = tmp_path / "trap"
    attack = f"open({str(tmp_path / 'pwned')!r}, 'w')\n"
    for package in ("importlib", "os", "site", "encodings", "torch"):
        (trap / package).mkdir(parents=True)
        (trap / package / "__init__.py").write_text(attack)
    for module in ("sitecustomize", "usercustomize", "types", "warnings"):
        (trap / f"{module}.py").write_text(attack)
    monkeypatch.chdir(trap)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    if pythonpath is not None:
        monkeypatch.setenv("PYTHONPATH", pythonpath)
    environment = environment_of(str(wrapper) if how == "--python" else "python3", thorough=how == "--python")
    assert environment.sites, "the interpreter was not started"
    assert not (tmp_path / "pwned").exists()


def test_a_torch_in_the_user_site_is_found_through_a_wrapper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_python: str
) -> None:
    wrapper = wrapper_of(plain_python, tmp_path)
    monkeypatch.setenv("PYTHONUSERBASE", str(tmp_path / "user"))
    torch = make_site(tmp_path / "user", python=f"python{sys.version_info[0]}.{sys.version_info[1]}")
    assert choose(python=str(wrapper)).root == torch
    monkeypatch.setenv("PYTHONNOUSERSITE", "1")
    with pytest.raises(LibtorchUnusableError, match="no torch is installed there"):
        choose(python=str(wrapper))


def test_a_path_file_in_the_user_site_leads_to_a_torch_through_a_wrapper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_python: str
) -> None:
    wrapper = wrapper_of(plain_python, tmp_path)
    site = tmp_path / f"user/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    site.mkdir(parents=True)
    torch = make(tmp_path / "linked/torch")
    (site / "linked.pth").write_text(f"{torch.parent}\n")
    monkeypatch.setenv("PYTHONUSERBASE", str(tmp_path / "user"))
    assert choose(python=str(wrapper)).root == torch


def test_a_virtual_environment_behind_a_wrapper_does_not_read_the_user_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    wrapper = wrapper_of(str(tmp_path / "venv/bin/python"), tmp_path)
    monkeypatch.setenv("PYTHONUSERBASE", str(tmp_path / "user"))
    make_site(tmp_path / "user", python=f"python{sys.version_info[0]}.{sys.version_info[1]}")
    with pytest.raises(LibtorchUnusableError, match="no torch is installed there"):
        choose(python=str(wrapper))


def test_a_torch_on_pythonpath_is_found_through_a_wrapper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_python: str
) -> None:
    wrapper = wrapper_of(plain_python, tmp_path)
    torch = make(tmp_path / "first/torch")
    monkeypatch.setenv("PYTHONPATH", f"/nowhere:{tmp_path}/first")
    assert choose(python=str(wrapper)).root == torch


def test_a_missing_interpreter_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ToolMissingError, match="No such interpreter"):
        choose(python=str(tmp_path / "python9"))


def test_an_interpreter_without_torch_is_reported(tmp_path: Path) -> None:
    make_venv(tmp_path / "venv")
    with pytest.raises(LibtorchUnusableError, match="no torch is installed there"):
        choose(python=str(tmp_path / "venv"))


def test_a_namespace_directory_does_not_hide_the_package_behind_it(tmp_path: Path) -> None:
    make_venv(tmp_path / "venv")
    (tmp_path / "mine/torch").mkdir(parents=True)
    torch = make_site(tmp_path / "venv")
    os.environ["PYTHONPATH"] = str(tmp_path / "mine")
    try:
        assert choose(python=str(tmp_path / "venv/bin/python")).root == torch
    finally:
        del os.environ["PYTHONPATH"]


def source_tree(root: Path) -> Path:
    """A checkout of PyTorch with its build in place; returns its torch directory."""
    for directory in ("aten", "c10"):
        (root / directory).mkdir(parents=True)
    (root / "setup.py").touch()
    return make(root / "torch", replace(Fake(), version="2.13.0a0+git1234567"))


def test_a_build_outside_its_repository_is_a_source_build(tmp_path: Path) -> None:
    (tmp_path / "pytorch/build").mkdir(parents=True)
    (tmp_path / "pytorch/build/CMakeCache.txt").touch()
    (tmp_path / "pytorch/setup.py").touch()
    assert inspect(make(tmp_path / "pytorch/torch"), "path").layout == "source"


@pytest.mark.parametrize("how", ["pth", "egg-link", "finder", "direct_url"])
def test_an_editable_install_leads_to_the_source_tree(tmp_path: Path, how: str) -> None:
    site = make_venv(tmp_path / "venv")
    torch = source_tree(tmp_path / "my pytorch")
    if how == "pth":
        (site / "__editable__.torch-2.13.0a0.pth").write_text(f"{torch.parent}\n")
    elif how == "egg-link":
        (site / "torch.egg-link").write_text(f"{torch.parent}\n.\n")
    elif how == "finder":
        mapping = f"MAPPING: dict[str, str] = {{'functorch': '/x/functorch', 'torch': {str(torch)!r}}}\n"
        (site / "__editable___torch_2_13_0a0_finder.py").write_text(f"import sys\n{mapping}")
        (site / "__editable__.torch-2.13.0a0.pth").write_text("import __editable___torch_2_13_0a0_finder\n")
    else:
        (site / "torch-2.13.0a0.dist-info").mkdir()
        record = {"url": (tmp_path / "my pytorch").as_uri(), "dir_info": {"editable": True}}
        (site / "torch-2.13.0a0.dist-info/direct_url.json").write_text(json.dumps(record))
    found = choose(python=str(tmp_path / "venv"))
    assert (found.root, found.layout, found.version) == (torch, "source", "2.13.0a0+git1234567")


def test_an_editable_install_that_redirects_keeps_its_libraries_in_site_packages(tmp_path: Path) -> None:
    site = make_venv(tmp_path / "venv")
    root = make(site / "torch", replace(Fake(), version=None))
    checkout = tmp_path / "pytorch/torch"
    checkout.mkdir(parents=True)
    (checkout / "__init__.py").touch()
    (site / "_torch_editable.py").write_text(f"install({{'torch': {str(checkout / '__init__.py')!r}}})\n")
    assert list(torch_in(site)) == [root, checkout]
    found = choose(python=str(tmp_path / "venv"))
    assert (found.root, found.layout, found.version) == (root, "pip", "2.13.0")


def test_the_environment_around_a_torch_names_its_interpreter(tmp_path: Path) -> None:
    site = make_venv(tmp_path / "venv")
    environment = environment_around(site / "torch")
    assert environment is not None
    assert environment.python == tmp_path / "venv/bin/python3"
    assert environment_around(tmp_path / "libtorch") is None
