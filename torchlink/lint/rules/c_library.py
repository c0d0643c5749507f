"""The rule about the C library: what was linked with glibc does not run with musl, nor the other way round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.lint.context import file_name
from torchlink.lint.finding import Severity
from torchlink.lint.missing import missing_names, other_c_library
from torchlink.lint.rule import rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.lint.context import LintContext
    from torchlink.lint.finding import Finding
    from torchlink.lint.rule import Rule

SHOWN = 5  # symbols in a finding's evidence


@rule("c-library-mismatch", Severity.ERROR, "A library was linked with another C library than the program.")
def c_library_mismatch(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding for all of them: the cause is the system that they were built for."""
    objects = context.once(other_c_library)
    if not objects:
        return
    theirs, ours = ("glibc", "musl") if context.system.family == "musl" else ("musl", "glibc")
    torch = {each.path for group in context.torch.values() for each in group}
    names = ", ".join(file_name(path) for path in objects)
    are, need = ("is", "it needs") if len(objects) == 1 else ("are", "they need")
    needed = ", ".join(dict.fromkeys(name for group in objects.values() for name in group))
    loader = f", whose loader is {context.system.interpreter}" if context.system.interpreter else ""
    whose = "This libtorch is" if torch & objects.keys() else f"{names} {are}"
    subject = (
        f"{context.name} was itself linked with {theirs} (it needs {needed}), and {ours} would load it"
        if context.subject.path in objects
        else f"{whose} built for {theirs} ({names}: {need} {needed}), and {context.name} runs on {ours}{loader}"
    )
    fix = f"Take a build of {names} for {ours}, or build and run {context.name} on a system with {theirs}."
    if torch & objects.keys() and theirs == "glibc":
        fix = (
            f"Build and run {context.name} on a system with glibc (an image such as debian:12-slim instead of "
            "Alpine), or "
            "build PyTorch from source on the system with musl: no published libtorch is for musl, and gcompat does "
            "not make up for it."
        )
    missing = {edges[0].name: edges for edges in missing_names(context).get(rule.id, ())}
    yield rule.finding(
        "libtorch" if torch & objects.keys() else names,
        f"{subject}: it does not start.",
        fix,
        (
            *(f"{name}: not found" for name in missing),
            *unresolved(context, objects),
        ),
    )


def unresolved(context: LintContext, objects: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """What a text calls undefined in these objects, a line each."""
    if not context.from_text:
        return
    for path in objects:
        symbols = [symbol.symbol for symbol in context.scope.undefined_symbols(path)]
        if symbols:
            more = f" and {len(symbols) - SHOWN} more" if len(symbols) > SHOWN else ""
            yield f"{file_name(path)}: symbol not found: {', '.join(symbols[:SHOWN])}{more}"


C_LIBRARY = (c_library_mismatch,)
