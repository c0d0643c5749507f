"""The rule about libraries that take the place of what libtorch's libraries hold themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.libtorch.names import bare_name
from torchlink.lint.context import file_name
from torchlink.lint.finding import Severity
from torchlink.lint.interposed import interposed, is_of_torch
from torchlink.lint.rule import rule
from torchlink.lint.rules.copies import OWN_SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.binary.closure import LoadedObject
    from torchlink.lint.context import LintContext
    from torchlink.lint.finding import Finding
    from torchlink.lint.interposed import Taken
    from torchlink.lint.rule import Rule

SHOWN = 3  # symbols of a kind in a finding's evidence
FAMILIES = 3  # families in a sentence
FLAGS = "$(torchlink flags --link)"
KEEP = f"-Wl,--push-state,--no-as-needed {FLAGS} -Wl,--pop-state"


@rule(
    "interposed-symbols",
    Severity.WARNING,
    "A library that is loaded before libtorch takes the place of functions that libtorch has itself.",
)
def interposed_symbols(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding for each object that takes some; an error where libtorch then mixes two implementations.

    Python imports torch first as a rule, and libtorch has bound its symbols when the extension is loaded.
    """
    for path, taken in context.once(interposed).items():
        taker = context.closure.object(path)
        if taker is None or any(taker.elf.defines(symbol) for symbol in OWN_SYMBOLS.values()):
            continue  # a static copy of libtorch is another rule's
        severity = Severity.ERROR if any(each.kept for each in taken) else None
        yield rule.finding(
            file_name(path),
            " ".join((sentence(taker, taken, context), *map(consequence, taken))) + when(context),
            cure(taker, context),
            tuple(evidence(taker, taken, context)),
            severity=Severity.NOTE if context.is_extension else severity,
        )._replace(parts=tuple(sorted({family for each in taken for family in each.symbols})))


def sentence(taker: LoadedObject, taken: list[Taken], context: LintContext) -> str:
    """Who takes how many symbols of whom."""
    counts = [
        f"{each.total} symbol{'s' * (each.total > 1)} that {file_name(each.library.path)} defines for itself "
        f"({some([f'{len(names)} of {family}' for family, names in most_first(each.symbols)])})"
        for each in taken
    ]
    itself = taker.path == context.subject.path
    who = (
        f"{context.name} itself takes"
        if itself
        else f"{file_name(taker.path)} is loaded before libtorch and takes"
    )
    return f"{who} {' and '.join(counts)}: libtorch's own calls go there."


def consequence(taken: Taken) -> str:
    """What that does to libtorch, as a sentence."""
    library = file_name(taken.library.path)
    if not taken.kept:
        families = some([family for family, _ in most_first(taken.symbols)])
        return (
            f"It has all that {library} uses of {families}, so that libtorch runs with another implementation than it "
            "was built and tested with."
        )
    kept = [f"{len(names)} of {family}" for family, names in most_first(taken.kept)]
    return (
        f"The rest stays {library}'s own ({some(kept)}): two implementations are mixed, which crashes or "
        "computes wrong results."
    )


def when(context: LintContext) -> str:
    """In what case that happens, where the binary does not decide it alone."""
    if context.is_extension:
        return f" That is so where {context.name} is imported before torch."
    return "" if context.is_program else " That is so where nothing has loaded libtorch before."


def cure(taker: LoadedObject, context: LintContext) -> str:
    """The order on the link line that puts libtorch first, or what else helps."""
    if taker.found_via.kind == "preload":
        return f"Take {file_name(taker.path)} out of LD_PRELOAD (or /etc/ld.so.preload)."
    if taker.path == context.subject.path:
        return (
            "Do not export what is linked statically: link with -Wl,--exclude-libs,ALL (in CMake "
            "target_link_options(TARGET PRIVATE LINKER:--exclude-libs,ALL)) and without -rdynamic, or compile it with "
            "-fvisibility=hidden."
        )
    owner, named = on_whose_line(taker, context)
    flags = FLAGS if uses_torch(owner, context) else KEEP
    file = file_name(named.path)
    library = f"-l{bare_name(named.elf.dynamic.soname or file)}" if file.startswith("lib") else named.path
    return (
        f"Link {file_name(owner.path)} with torchlink's flags before {library}: g++ … {flags} {library}; in CMake "
        f"target_link_libraries(TARGET PRIVATE ${{TORCH_LIBRARIES}} {library.removeprefix('-l')}), with torchlink's "
        "prefix."
    )


def on_whose_line(taker: LoadedObject, context: LintContext) -> tuple[LoadedObject, LoadedObject]:
    """The object to link again, and the library on its line before which libtorch has to come.

    The one that asks for the taker, or the binary itself where that is nobody's to link: either way libtorch is loaded
    before the taker, because the loader goes breadth first.
    """
    named = taker
    while True:
        asking = context.closure.object(named.needed_by or "")
        if asking is None or asking is context.subject or (named is taker and asking in context.own):
            return asking or context.subject, named
        named = asking


def uses_torch(owner: LoadedObject, context: LintContext) -> bool:
    """Whether an object uses a library of libtorch, so that a linker keeps it wherever it stands on the line."""
    if not owner.elf.dynamic.present:  # only a text names it
        return True
    providers = map(context.scope.provider, context.scope.references(owner.path))
    return any(each is not None and is_of_torch(each) for each in providers)


def evidence(taker: LoadedObject, taken: list[Taken], context: LintContext) -> Iterator[str]:
    """Some of the symbols, some of those that stay, and the order in which the objects are loaded."""
    for each in taken:
        names = [name for _, names in most_first(each.symbols) for name in names]
        yield from (f"taken: {name}" for name in names[:SHOWN])
        for _, left in most_first(each.kept):
            yield from (f"kept by {file_name(each.library.path)}: {name}" for name in left[:SHOWN])
    if taker.path != context.subject.path:
        yield f"{taker.path}: {taker.found_via}, needed by {taker.needed_by}"
    libraries = {each.library.path for each in taken}
    order = [each.path for each in context.closure.objects]
    places = (path for path in order if path == taker.path or path in libraries)
    yield f"load order: {', '.join(f'#{order.index(path) + 1} {file_name(path)}' for path in places)}"


def most_first(families: dict[str, tuple[str, ...]]) -> list[tuple[str, tuple[str, ...]]]:
    """Families with their names, the largest first."""
    return sorted(families.items(), key=lambda each: (-len(each[1]), each[0]))


def some(words: list[str]) -> str:
    """The first few, and how many more."""
    more = len(words) - FAMILIES
    return ", ".join(words[:FAMILIES]) + (f" and {more} more" if more > 0 else "")


INTERPOSING = (interposed_symbols,)
