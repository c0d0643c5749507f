"""From an interpreter to its environment: read from its files; it is started only where they do not suffice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchlink.bounds import load_json
from torchlink.errors import RunFailedError, ToolMissingError
from torchlink.libtorch.disk import absolute, exists, is_dir, is_file, names_in, read_bytes, read_text
from torchlink.libtorch.environment import Environment, environment_at, python_version
from torchlink.libtorch.packages import torch_in
from torchlink.libtorch.resolve import unique

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 30.0  # seconds; an interpreter on a cold network disk is slow
WHICH = "import json, sys; print(json.dumps({'executable': sys.executable}))"
# Started with -I, so that no module of the working directory is imported. What -I hides besides that is put back: the
# absolute entries of PYTHONPATH, including a wrapper's, and the user's site-packages where Python would use them.
SYS_PATH = """
import importlib.util, json, os, site, sys
venv = sys.prefix != sys.base_prefix and sys.base_prefix not in site.PREFIXES
own = site.getusersitepackages()
if os.path.isabs(own) and not (os.environ.get("PYTHONNOUSERSITE") or venv or sys.flags.no_site):
    before = list(sys.path)
    site.addsitedir(own)
    user = [entry for entry in sys.path if entry not in before]
    shared = [entry for entry in before if "site-packages" in entry or "dist-packages" in entry]
    at = min(map(before.index, shared), default=len(before))
    sys.path[:] = before[:at] + user + before[at:]
named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
sys.path[:0] = [entry for entry in named if os.path.isabs(entry)]
spec = importlib.util.find_spec("torch")
torchs = [os.path.dirname(place) for place in (spec.submodule_search_locations or ())] if spec else []
print(json.dumps({"sites": torchs + sys.path}))
"""


def interpreter_on_path() -> str | None:
    """Return the python3 (or python) that a shell would start."""
    from shutil import which

    return which("python3") or which("python")


def environment_of(python: str, *, thorough: bool = False) -> Environment:
    """Return the environment of an interpreter.

    Args:
        python: a path, or a name on PATH; a directory is an environment's prefix.
        thorough: if the files lead to no torch, start the interpreter and read its sys.path.

    Raises:
        ToolMissingError: no such interpreter.
    """
    path = Path(python).expanduser()
    if is_dir(path):
        return environment_at(absolute(path))
    from shutil import which

    found = which(str(path))
    if found is None:
        raise ToolMissingError(f"No such interpreter: {python}.", hint="Name one with --python EXE.")
    environment = from_files(absolute(found))
    if environment is None:
        environment = from_process(found)
    environment = environment._replace(sites=tuple(unique([*python_path(), *environment.sites])))
    if thorough and not any(True for site in environment.sites for _ in torch_in(site)):
        return from_sys_path(found) or environment
    return environment


def from_files(python: Path) -> Environment | None:
    """Return the environment by the interpreter's location; None for a script or outside an installation."""
    if is_file(python.parent.parent / "pyvenv.cfg"):
        return environment_at(python.parent.parent)
    if python.parent.name == "shims":
        shimmed = pyenv_python(python)
        return from_files(shimmed) if shimmed else None
    real = Path(os.path.realpath(python))
    if is_script(real):
        return None
    prefix = real.parent.parent
    version = python_version(real.name)
    if version is None or not is_file(prefix / "lib" / real.name / "os.py"):
        homes = [name for name in names_in(prefix / "lib") if is_file(prefix / "lib" / name / "os.py")]
        if len(homes) != 1:
            return None
        version = python_version(homes[0])
    return environment_at(prefix, version)


def is_script(path: Path) -> bool:
    """Whether an interpreter is a wrapper script."""
    return read_bytes(path, 2) == b"#!"


def pyenv_python(shim: Path) -> Path | None:
    """Return the interpreter behind pyenv's shim, from the files that pyenv reads; None if they do not suffice.

    The order is pyenv's: PYENV_VERSION, `.python-version` in the working directory and above, the global one.
    """
    root = shim.parent.parent
    for version in pyenv_versions(root):
        for candidate in (
            root / "versions" / version,
            *sorted((root / "versions").glob(f"{version}.*"), reverse=True),
        ):
            if exists(candidate / "bin" / shim.name):
                return candidate / "bin" / shim.name
        return None
    return None


def pyenv_versions(root: Path) -> Iterator[str]:
    """Yield the configured version names, in order of precedence."""
    if os.environ.get("PYENV_VERSION"):
        yield os.environ["PYENV_VERSION"].split(":")[0]
    here = Path.cwd()
    for file in (*(directory / ".python-version" for directory in (here, *here.parents)), root / "version"):
        words = read_text(file).split()
        if words:
            yield words[0]


def asked(python: str, question: str, *, site: bool = False) -> dict[str, Any]:
    """Start an interpreter, isolated from the working directory and the environment, and return what it prints.

    Args:
        python: a path, or a name on PATH.
        question: a program whose last line of output is a JSON object.
        site: whether to import its `site`, as it does by default.

    Raises:
        ToolMissingError: it does not start, or is no Python 3.
    """
    from torchlink.process import run

    options = ["-I"] if site else ["-I", "-S"]
    try:
        done = run([python, *options, "-c", question], timeout=TIMEOUT)
    except (ToolMissingError, RunFailedError) as error:
        raise ToolMissingError(
            f"{python} does not start: {error.message}", hint="Name another interpreter."
        ) from error
    try:
        answer = load_json(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
    except (IndexError, ValueError):
        answer = None
    if not isinstance(answer, dict):
        raise ToolMissingError(f"{python} is no Python 3.", hint="Name another interpreter.")
    return answer


def from_process(python: str) -> Environment:
    """Start an interpreter whose files do not suffice, and return its environment.

    A shim (pyenv's, asdf's) only chooses an interpreter, so it is enough to ask which one it starts. Any other script
    may set variables too, so its whole sys.path is read.
    """
    if Path(python).parent.name == "shims":
        try:
            real = asked(python, WHICH)["executable"]
        except ToolMissingError:
            return empty_environment(python)
        found = from_files(Path(real)) if real and real != python else None
        if found is not None:
            return found
    return from_sys_path(python) or empty_environment(python)


def empty_environment(python: str) -> Environment:
    """Return the environment of an interpreter that does not start."""
    return Environment(Path(python).parent.parent, Path(python), ())


def from_sys_path(python: str) -> Environment | None:
    """Return the environment as the interpreter itself sees it, .pth files included; torch is not imported."""
    try:
        entries = asked(python, SYS_PATH, site=True)["sites"]
    except ToolMissingError:
        return None
    sites = [path for path in map(Path, filter(None, entries)) if is_dir(path)]
    return Environment(Path(python).parent.parent, Path(python), tuple(unique(sites)))


def python_path() -> list[Path]:
    """Return the directories of PYTHONPATH, which every interpreter puts first."""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [absolute(entry) for entry in entries if entry]
