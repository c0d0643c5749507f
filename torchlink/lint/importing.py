"""The libtorchs that Python extensions are checked with.

What is in the process when Python imports an extension after `import torch`.

Python loads `torch/_C` with RTLD_LOCAL: an extension finds libtorch's libraries there by their names, whatever its own
search path says, but binds only to those that it needs itself. `libtorch_global_deps.so` alone is loaded for everybody.
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
from torchlink.lint.context import LintContext, file_name, holds_torch, names_in
from torchlink.lint.libtorch_names import TORCH_TYPE, is_of_torch
from torchlink.lint.missing import is_foreign
from torchlink.status import is_dir, is_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torchlink.binary.closure import LoadedObject
    from torchlink.binary.loader import OpenFiles
    from torchlink.binary.system import LoaderSystem
    from torchlink.libtorch.facts import Libtorch


class Torches:
    """The libtorchs that Python extensions of one run are checked with, each looked for once.

    Args:
        libtorch: what `--libtorch` named.
        python: what `--python` named.
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
        """Look for the one that the user has named.

        Raises:
            TorchlinkError: it cannot serve.
        """
        if self.named and isinstance(found := self.found(None), TorchlinkError):
            raise found

    def found(self, package: Path | None) -> Libtorch | TorchlinkError:
        """The libtorch of a torch package, or (None) the one that `torchlink find` takes."""
        if package not in self._found:
            from torchlink.libtorch.choose import choose

            try:
                self._found[package] = choose(package) if package else choose(self.libtorch, self.python)
            except ResourcesError:
                raise
            except TorchlinkError as error:
                self._found[package] = error
        return self._found[package]


# The first of these that is there is what `import torch` loads, or else what a libtorch without Python has instead.
ENTRIES = (r"_C\..*so$", r"libtorch_python\.so$", r"libtorch\.so$", r"libtorch_cpu\.so$")
GLOBAL = "libtorch_global_deps.so"
SITE = "the site-packages that it is in"


class Imported(NamedTuple):
    """A libtorch as Python has it in its process."""

    root: Path
    library_dir: Path
    found_by: str
    objects: tuple[LoadedObject, ...]  # what `import torch` loads, `_C` first
    shared: tuple[LoadedObject, ...]  # what it loads for everybody


def imported(
    context: LintContext, torches: Torches, environment: Mapping[str, str], files: OpenFiles
) -> Imported | str | None:
    """The libtorch that an extension is to be checked with.

    Returns:
        It; a sentence where none was found; None where the extension uses none, is libtorch's own, or finds by
        its own search path the one that Python has, so that its own closure tells all.
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
        return None  # the torchs of this machine are none of its
    libtorch = torches.found(package)
    if isinstance(libtorch, TorchlinkError):
        return (
            f"No libtorch was found to check it with, as Python imports it after `import torch`: {libtorch.message} "
            "Name one with --libtorch or --python."
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
    """Whether a binary needs libtorch's libraries, or names that only they can have."""
    asked = (name for each in context.own for name in each.elf.dynamic.needed)
    return any(bare_name(file_name(name)) in TORCH_LIBRARIES for name in asked) or any(
        is_of_torch(symbol.symbol) or re.search(TORCH_TYPE, symbol.symbol) for symbol in context.undefined
    )


def package_around(file: Path, root: str | None) -> Path | None:
    """The torch package that `import torch` means where a file is: in its site-packages or its environment's."""
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
    """The entries of sys.path that go with a directory above an extension."""
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
    """What `import torch` loads, the object that Python itself opens first; () where it cannot be read."""
    there = [directory / name for directory in (package, library_dir) for name in sorted(names_in(directory))]
    for entry in ENTRIES:
        for path in there:
            if re.match(entry, path.name):
                try:
                    return resolve(path, system=system, environment=environment, files=files).objects
                except ResourcesError:
                    raise
                except TorchlinkError:
                    continue
    return ()


def after_import_of_torch(
    context: LintContext, torches: Torches | None, files: OpenFiles
) -> tuple[LintContext, tuple[str, ...], tuple[str, ...]]:
    """An extension's case as Python imports it after `import torch`, what that assumes, and what it leaves open."""
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
    said = [
        f"Python is taken to have imported torch before, with the libtorch in {found.root} ({found.found_by}); "
        "--libtorch or --python names another."
    ]
    others = [each for each in context.torch_dirs if each != os.path.realpath(found.library_dir)]
    if others:
        said.append(
            f"The libtorch in {', '.join(others)}, to which its own search path leads, does not count: once torch is "
            "imported, the other one is in the process already."
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
    return after, tuple(said), ()


def imported_where_told(
    context: LintContext, torches: Torches | None, files: OpenFiles
) -> tuple[LintContext, tuple[str, ...], tuple[str, ...]]:
    """The same for an extension of which only a text tells: its undefined names are looked up, its closure stays."""
    if any(bare_name(edge.name) in TORCH_LIBRARIES for edge in context.closure.missing):
        return context, (), ()  # of what is undefined without them nothing can be said
    found = imported(context, torches or Torches(), context.options.environment, files)
    if found is None or isinstance(found, str):
        return context, (), (found,) if found else ()
    said = (
        f"The text does not say which libtorch {'Python' if context.is_extension else context.name} had "
        "loaded: taken is "
        f"the one in {found.root} "
        f"({found.found_by}); --libtorch or --python names another."
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
    return after, (said,), ()
