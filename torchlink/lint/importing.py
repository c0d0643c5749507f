"""The libtorch that is in the process when Python imports an extension after `import torch`.

Python loads `torch/_C` with RTLD_LOCAL: an extension's NEEDED entries resolve to the libraries that are loaded already,
whatever its own search path, but it binds only to those that it needs itself. Only `libtorch_global_deps.so` is loaded
with RTLD_GLOBAL.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.bindings import Scope
from torchlink.binary.loader import resolve
from torchlink.errors import ResourcesError, TorchlinkError
from torchlink.libtorch.names import TORCH_LIBRARIES, bare_name
from torchlink.libtorch.symbols import TORCH_TYPE, is_of_torch
from torchlink.lint.context import LintContext, file_name, holds_torch, names_in
from torchlink.lint.missing import is_foreign
from torchlink.status import is_dir, is_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torchlink.binary.closure import LoadedObject
    from torchlink.binary.loader import OpenFiles
    from torchlink.binary.system import LoaderSystem
    from torchlink.libtorch.facts import Libtorch

# The first of these that exists is what `import torch` loads, or the equivalent in a libtorch without Python.
ENTRIES = (r"_C\..*so$", r"libtorch_python\.so$", r"libtorch\.so$", r"libtorch_cpu\.so$")
GLOBAL = "libtorch_global_deps.so"
SITE = "the site-packages that it is in"


class Torches:
    """The libtorchs that the Python extensions of one run are checked with, each looked up once.

    Args:
        libtorch: the value of `--libtorch`.
        python: the value of `--python`.
    """

    def __init__(self, libtorch: Path | None = None, python: str | None = None) -> None:
        self.libtorch = libtorch
        self.python = python
        self._found: dict[Path | None, Libtorch | TorchlinkError] = {}

    @property
    def named(self) -> bool:
        """Whether the user has named one."""
        return self.libtorch is not None or self.python is not None

    def check(self) -> None:
        """Look up the libtorch that the user has named, if any.

        Raises:
            TorchlinkError: it cannot be used.
        """
        if self.named and isinstance(found := self.found(None), TorchlinkError):
            raise found

    def found(self, package: Path | None) -> Libtorch | TorchlinkError:
        """Return the libtorch of a torch package, or for None the one that `torchlink find` chooses."""
        if package not in self._found:
            from torchlink.libtorch.choose import choose

            try:
                self._found[package] = choose(package) if package else choose(self.libtorch, self.python)
            except ResourcesError:
                raise
            except TorchlinkError as error:
                self._found[package] = error
        return self._found[package]


class Imported(NamedTuple):
    """A libtorch that Python has loaded."""

    root: Path
    library_dir: Path
    found_by: str
    objects: tuple[LoadedObject, ...]  # what `import torch` loads, `_C` first
    shared: tuple[LoadedObject, ...]  # what it loads with RTLD_GLOBAL


def after_import_of_torch(
    context: LintContext, torches: Torches | None, files: OpenFiles
) -> tuple[LintContext, tuple[str, ...], tuple[str, ...]]:
    """Return an extension's context after `import torch`, with sentences: what is assumed, what is not checked."""
    environment = context.options.environment
    found = imported(context, torches or Torches(), environment, files)
    if found is None or isinstance(found, str):
        return context, (), (found,) if found else ()
    closure = resolve(
        context.subject.file,
        system=context.system,
        environment=environment,
        files=files,
        loaded=found.objects,
    )
    assumed = [
        f"Python has already imported torch, with the libtorch in {found.root} ({found.found_by}); choose "
        "another with --libtorch or --python."
    ]
    others = [each for each in context.torch_dirs if each != os.path.realpath(found.library_dir)]
    if others:
        assumed.append(
            f"The libtorch in {', '.join(others)}, to which its own search path leads, is ignored: once torch is "
            "imported, the other one is already in the process."
        )
    after = LintContext(
        closure,
        Scope(closure),
        context.options,
        context.kind,
        context.system,
        from_text=context.from_text,
        imported=found,
    )
    return after, tuple(assumed), ()


def after_import_in_text(
    context: LintContext, torches: Torches | None, files: OpenFiles
) -> tuple[LintContext, tuple[str, ...], tuple[str, ...]]:
    """Do the same for an extension known only from a text: its undefined names are looked up, its closure stays."""
    if any(bare_name(edge.name) in TORCH_LIBRARIES for edge in context.closure.missing):
        return context, (), ()  # the missing libraries may define what is undefined
    found = imported(context, torches or Torches(), context.options.environment, files)
    if found is None or isinstance(found, str):
        return context, (), (found,) if found else ()
    assumed = (
        f"The input does not say which libtorch {'Python' if context.is_extension else context.name} had loaded. "
        f"Assumed: the one in {found.root} ({found.found_by}); choose another with --libtorch or --python."
    )
    after = LintContext(
        context.closure,
        context.scope,
        context.options,
        context.kind,
        context.system,
        from_text=context.from_text,
        imported=found,
        failed=context.failed,
        errors=context.errors,
    )
    return after, (assumed,), ()


def imported(
    context: LintContext, torches: Torches, environment: Mapping[str, str], files: OpenFiles
) -> Imported | str | None:
    """Return the libtorch to check an extension with.

    Returns:
        The libtorch; a sentence if none was found; None if the extension uses none, is libtorch's own, or finds the
        same one through its own search path, so that its own closure is enough.
    """
    if (
        not (context.is_extension or context.from_text)
        or not uses_torch(context)
        or context.belongs_to_torch(context.subject)
    ):
        return None
    package = None if torches.named else package_around(context.subject.file, context.system.tree.root)
    by_itself = bool(context.torch_dirs) and not any(
        bare_name(edge.name) in TORCH_LIBRARIES for edge in context.closure.missing
    )
    if by_itself and package is None and not torches.named:
        return None
    if (
        package is None
        and not torches.named
        and (context.system.tree.root is not None or is_foreign(context))
    ):
        return None  # it does not run with the torchs of this machine
    libtorch = torches.found(package)
    if isinstance(libtorch, TorchlinkError):
        return (
            "Python imports it after `import torch`, but no libtorch was found to check it with: "
            f"{libtorch.message} Name one with --libtorch or --python."
        )
    if package is not None and libtorch.root in context.subject.file.parents:
        return None  # torch's own
    loaded = after_import(package or libtorch.root, libtorch.library_dir, context.system, environment, files)
    if not loaded or loaded[0].elf.machine != context.subject.elf.machine:
        return None
    if by_itself and os.path.realpath(libtorch.library_dir) in context.torch_dirs:
        return None
    entry = libtorch.library_dir / GLOBAL
    try:
        shared = resolve(entry, system=context.system, environment=environment, files=files).objects
    except ResourcesError:
        raise
    except TorchlinkError:  # of a libtorch without Python
        shared = ()
    found_by = SITE if package is not None else libtorch.found_by
    return Imported(libtorch.root, libtorch.library_dir, found_by, loaded, shared)


def uses_torch(context: LintContext) -> bool:
    """Whether a binary needs libtorch's libraries, or uses symbols that only they can define."""
    needed = (name for each in context.own for name in each.elf.dynamic.needed)
    return any(bare_name(file_name(name)) in TORCH_LIBRARIES for name in needed) or any(
        is_of_torch(symbol.symbol) or re.search(TORCH_TYPE, symbol.symbol) for symbol in context.undefined
    )


def package_around(file: Path, root: str | None) -> Path | None:
    """Return the torch package that `import torch` loads next to a file: of its site-packages or its environment."""
    from torchlink.libtorch.packages import torch_in

    for directory in Path(os.path.abspath(file)).parents:  # noqa: PTH100 - a symlink must stay one
        for site in sites_at(directory):
            found = next(torch_in(site), None)
            if found is not None:
                return found
        if str(directory) == root:
            break
    return None


def sites_at(directory: Path) -> Iterator[Path]:
    """Return the entries of sys.path for a directory above an extension."""
    from torchlink.libtorch.environment import environment_around, environment_at

    if directory.name in {"site-packages", "dist-packages"}:
        yield directory
        around = environment_around(directory / "torch")
        yield from around.sites if around else ()
    elif is_file(directory / "pyvenv.cfg") or is_dir(directory / "conda-meta"):
        yield from environment_at(directory).sites
    elif is_file(directory / "torch" / "__init__.py") and holds_torch(directory / "torch" / "lib"):
        yield directory


def after_import(
    package: Path, library_dir: Path, system: LoaderSystem, environment: Mapping[str, str], files: OpenFiles
) -> tuple[LoadedObject, ...]:
    """Return what `import torch` loads, the object that Python itself opens first; () if it cannot be read."""
    paths = [directory / name for directory in (package, library_dir) for name in sorted(names_in(directory))]
    for entry in ENTRIES:
        for path in paths:
            if re.match(entry, path.name):
                try:
                    return resolve(path, system=system, environment=environment, files=files).objects
                except ResourcesError:
                    raise
                except TorchlinkError:
                    continue
    return ()
