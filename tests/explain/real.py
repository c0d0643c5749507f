"""Real failures of real tools, explained, and fixed by what the explanation prints."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from torchlink.explain.explanation import explain

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.explain.explanation import Found

# The functions of libtorch that the programs call are declared by hand: libtorch's headers take seconds to compile.
CALLS = """
#include <cstdint>
#include <string>
namespace c10::detail {
[[noreturn]] void torchCheckFail(const char*, const char*, uint32_t, const std::string&);
}
namespace at { int get_num_threads(); std::string show_config(); }
"""
PROGRAM = (
    CALLS
    + """
int main(int argc, char**) {
  if (argc > 1) c10::detail::torchCheckFail("f", "main.cpp", 1, at::show_config());
  return at::get_num_threads() < 1;
}
"""
)
LIBRARY = (
    CALLS
    + """
int detect(int n) {
  if (n > 9) c10::detail::torchCheckFail("f", "detect.cpp", 1, "too many");
  return at::get_num_threads();
}
"""
)
USER = "int detect(int); int main(int argc, char**) { return detect(argc) < 1; }\n"


class Place:
    """A directory in which commands run as a user would type them, with `torchlink` among the programs."""

    def __init__(self, directory: Path, torch_root: Path) -> None:
        self.directory = directory
        self.include = torch_root / "include"
        self.lib = torch_root / "lib"
        programs = directory / "programs"
        programs.mkdir()
        launcher = programs / "torchlink"
        launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m torchlink "$@"\n')
        launcher.chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "TORCHLINK_LIBTORCH": str(torch_root),
            "LC_ALL": "C.UTF-8",
        }

    def write(self, name: str, text: str) -> None:
        """Write a source."""
        (self.directory / name).write_text(text)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a shell; its output is that of a log, both streams in one."""
        return subprocess.run(
            command,
            shell=True,
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )

    def works(self, command: str) -> str:
        """Run a command that must succeed, and return what it printed."""
        done = self.run(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def cause_of(self, command: str) -> Found:
        """Run a command that must fail, and return the one cause that its output shows."""
        done = self.run(command)
        assert done.returncode != 0, f"{command} does not fail"
        found = explain([("log", io.BytesIO(done.stdout.encode()))]).causes
        assert len(found) == 1, f"{[each.cause.id for each in found]} in\n{done.stdout}"
        return found[0]


def causes_in(log: str) -> list[str]:
    """Return the ids of the causes that a log shows."""
    return [found.cause.id for found in explain([("log", io.BytesIO(log.encode()))]).causes]


def fix(found: Found, beginning: str) -> str:
    """Return the command of the fix that begins so: what a reader would copy."""
    commands = [each.command for each in found.fixes if each.command.startswith(beginning)]
    assert commands, f"no fix of {found.cause.id} begins with {beginning!r}"
    return commands[0]


def linkers() -> dict[str, str]:
    """Return the linkers that are installed: name -> the compiler command that uses it."""
    known = {"bfd": "g++", "gold": "g++", "lld": "g++", "mold": "clang++"}  # mold: g++ from 12.1
    return {
        name: f"{driver} -fuse-ld={name}"
        for name, driver in known.items()
        if shutil.which("mold" if name == "mold" else f"ld.{name}") and shutil.which(driver)
    }
