"""Real wheels for the tests: from the directory in TORCHLINK_TEST_WHEELS, else downloaded by pip."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

from tests.conftest import unmet

TAG = re.compile(
    r"torch-(?P<version>[^-]+)-(?P<python>cp(?P<major>\d)(?P<minor>\d+))-(?P<abi>[^-]+)-(?P<platform>.+)"
)
KEPT = Path(os.environ.get("TORCHLINK_TEST_WHEELS", "/nonexistent"))


def fetch(name: str, directory: Path) -> Path:
    """The wheel of a name without `.whl`; a downloaded one is in `directory`, which is the caller's to delete."""
    kept = KEPT / f"{name}.whl"
    if kept.is_file():
        return kept
    match = TAG.fullmatch(name)
    assert match
    options = ["--no-deps", "-d", str(directory), f"torch=={match['version']}"]
    done = pip("download", *target_options(name), *options)
    found = directory / f"{name}.whl"
    if not found.is_file():
        unmet(f"{name} from pip ({done.stderr.strip().splitlines()[-1:]})")
    return found


def unpack(name: str, site: Path) -> Path:
    """Unpack the parts of a wheel that a build needs into a site-packages directory; return the libtorch's root."""
    site.mkdir(parents=True, exist_ok=True)
    wheel = fetch(name, site)
    parts = (
        "torch/include",
        "torch/share",
        "torch/lib",
        "torch/version",
        "torch/__init__",
        "torch.libs",
        "torch-",
    )
    with ZipFile(wheel) as archive:
        archive.extractall(site, [member for member in archive.namelist() if member.startswith(parts)])
    if wheel.parent == site:
        wheel.unlink()
    return site / "torch"


def install_companions(name: str, site: Path) -> None:
    """Install the library packages that the METADATA of an unpacked wheel requires, and their dependencies."""
    (metadata,) = site.glob("torch-*.dist-info/METADATA")
    found = re.findall(r"^Requires-Dist: ((?:nvidia-|cuda-toolkit)[^;]*)", metadata.read_text(), re.MULTILINE)
    requirements = [re.sub(r"[ ()]", "", each) for each in found]
    done = pip("install", *target_options(name), "--target", str(site), *requirements)
    if done.returncode != 0:
        unmet(f"the companions of {name} from pip ({done.stderr.strip().splitlines()[-1:]})")


def target_options(name: str) -> list[str]:
    """Return the options that make pip select packages for a wheel's machine and Python."""
    match = TAG.fullmatch(name)
    assert match
    glibc = re.fullmatch(r"manylinux_2_(\d+)_(\w+)", match["platform"])
    # pip matches each --platform exactly: a wheel for an older glibc has another tag.
    older = [f"manylinux_2_{minor}_{glibc[2]}" for minor in range(16, int(glibc[1]))] if glibc else []
    platforms = [match["platform"], *older, *([f"manylinux2014_{glibc[2]}"] if glibc else [])]
    words = ["--only-binary=:all:", "--python-version", f"{match['major']}.{match['minor']}"]
    for option, values in (("--platform", platforms), ("--abi", [match["abi"], "none"])):
        words += [word for value in values for word in (option, value)]
    return [*words, "--find-links", str(KEPT)] if KEPT.is_dir() else words


def pip(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pip without its cache: the files are gigabytes."""
    words = [sys.executable, "-m", "pip", command, "-q", "--disable-pip-version-check", "--no-cache-dir"]
    return subprocess.run([*words, *arguments], capture_output=True, text=True, check=False)
