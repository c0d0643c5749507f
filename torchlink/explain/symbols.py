"""Undefined symbols in what linkers and loaders print, and the same name looked up in a library's symbols.

A linker prints a name demangled, a loader mangled, and each demangler in its own style: what is compared is the
demangled form without blanks, ABI tags and the inline namespaces of the standard libraries.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.explain.expressions import Expression
from torchlink.libtorch.symbols import LIBCXX, is_of_torch
from torchlink.toolchain.demangler import LONGEST, demangled_names

if TYPE_CHECKING:
    from torchlink.binary.elf import ElfFile

MARKS = (
    # GNU ld, gold, mold (older), ld.lld, the loaders of glibc and musl, dyld, MSVC's link.exe and lld-link
    Expression(r"(?:undefined (?:reference to|symbol:?)|Error relocating \S+:|[Ss]ymbol not found:?)\s+(.+)"),
    Expression(r"unresolved external symbol\s+(.+)"),
    Expression(r'^\s*"(.+)", referenced from:'),  # ld64
)
MANGLED = Expression(r"_?(_Z[\w.$]+)")
DECORATED = Expression(
    r"\?[\w?@$]+"
)  # MSVC's mangling; link.exe prints it in brackets behind the readable form
OF_MSVC = Expression(r"@(?:c10|at|torch|caffe2)@@")
C_NAME = Expression(r"[A-Za-z_]\w*(?=$|[\s'\u2019\"`@,:(])")
OPENING, CLOSING = "`'\u2018\"", "'\u2019\""
NAMESPACE = Expression(r"(?:c10|at|torch|caffe2)::[\w~{]|pybind11::detail::type_caster<(?:c10|at|torch)::")
SPECIAL = {"vtable for ": "TV", "typeinfo for ": "TI", "typeinfo name for ": "TS", "VTT for ": "TT"}
OPERATORS = {
    "<<": "ls",
    ">>": "rs",
    "==": "eq",
    "!=": "ne",
    "<": "lt",
    ">": "gt",
    "<=": "le",
    ">=": "ge",
    "=": "aS",
    "+": "pl",
    "-": "mi",
    "*": "ml",
    "/": "dv",
    "+=": "pL",
    "-=": "mI",
    "*=": "mL",
    "/=": "dV",
    "!": "nt",
    "->": "pt",
    "{}": "cl",
    "[]": "ix",
    "~": "co",
    "&": "an",
    "|": "or",
    "^": "eo",
}
# The old std::string, without blanks.
OLD_STRING = "std::basic_string<char,std::char_traits<char>,std::allocator<char>>"
TAG = "[abi:cxx11]"
MOST = 400  # names that match and are demangled; libtorch's largest overload sets have some ten


class Symbol(NamedTuple):
    """An undefined symbol as a tool printed it."""

    text: str
    mangled: bool

    @property
    def of_torch(self) -> bool:
        """Whether only libtorch can define it."""
        if self.text.startswith("?"):
            return OF_MSVC.search(self.text) is not None
        if self.mangled:
            return is_of_torch(self.text)
        name = qualified(self.text)
        return NAMESPACE.match(name) is not None or is_of_torch(name)


class Namesake(NamedTuple):
    """What a library defines in place of a symbol."""

    name: str  # mangled
    plain: str  # demangled; the mangled name where there is no demangler
    same: bool  # it differs in the string type only, or not at all
    exact: bool  # not at all


def undefined_in(line: str) -> Symbol | None:
    """Return the undefined symbol that a line reports, or None."""
    for mark in MARKS:
        found = mark.search(line)
        if found:
            return symbol_of(found[1].strip())
    return None


def symbol_of(text: str) -> Symbol | None:
    """Return the symbol at the beginning of a text."""
    text = text.strip()[:LONGEST]
    if decorated := DECORATED.search(text):
        return Symbol(decorated[0], mangled=True)
    text = text.lstrip(OPENING)
    if mangled := MANGLED.match(text):
        return Symbol(mangled[1], mangled=True)
    plain = re.split(r"['\u2019\"](?:\s|$)|\s+\(.*\.so[\w.]*\)$|, version ", text, maxsplit=1)[0].rstrip(
        CLOSING
    )
    if "::" in plain:
        return Symbol(plain, mangled=False)
    c_name = C_NAME.match(plain)
    return Symbol(c_name[0], mangled=True) if c_name else None


def qualified(plain: str) -> str:
    """Return the qualified name in a demangled one: without parameters, the type that it returns and what it is for."""
    for words in (*SPECIAL, "guard variable for "):
        if plain.startswith(words):
            return plain.removeprefix(words)
    plain = plain.replace("(anonymous namespace)", "{anonymous}").replace("operator()", "operator{}")
    start = depth = 0
    for at, char in enumerate(plain):
        if char in "<[{" and not plain[:at].endswith(("operator", "operator<")):
            depth += 1
        elif char in ">]}" and plain[at - 1 : at] not in {"-", "r"} and depth:
            depth -= 1
        elif depth == 0 and char == "(":
            return plain[start:at]
        elif depth == 0 and char == " " and "operator" not in plain[start:at]:
            start = at + 1
    return plain[start:]


def pattern_of(symbol: Symbol) -> str | None:
    """Return a pattern that the mangled names of all overloads of a symbol match; None if it has no C++ name."""
    if symbol.mangled:
        return _pattern_of_mangled(symbol.text)
    special = next((code for words, code in SPECIAL.items() if symbol.text.startswith(words)), "")
    parts = _components(qualified(symbol.text.replace(TAG, "")))
    if not parts:
        return None
    last, *_ = reversed(parts)
    nested = len(parts) > 1
    body = "".join(_mangled_part(part) for part in parts[:-1])
    bare = last.partition("<")[0]
    if bare.startswith("~"):
        body += "D[0-3]"
    elif nested and bare == parts[-2].partition("<")[0]:
        body += "C[1-3]"
    elif re.match(r"operator(?!\w)", last):
        body += OPERATORS.get(last.removeprefix("operator").strip(), "")
    else:
        body += _mangled_part(last)
    opening = "N[rVK]*[RO]?" if nested else ""
    return f"_Z{special}{opening}{body}"


def _components(name: str) -> list[str]:
    """Split a qualified name at the `::` that are not in template arguments."""
    parts, depth, start = [], 0, 0
    for at, char in enumerate(name):
        depth += (char == "<") - (char == ">")
        if depth == 0 and name.startswith("::", at):
            parts.append(name[start:at])
            start = at + 2
    return [part for part in (*parts, name[start:]) if part]


def _mangled_part(part: str) -> str:
    bare, template, _ = part.partition("<")
    if not bare.isidentifier():
        return ".*?"  # {anonymous}, a lambda
    return f"{len(bare)}{bare}{'I.*?' if template else ''}"


def _pattern_of_mangled(name: str) -> str | None:
    """Return the pattern for the nested name at the beginning of a mangled one."""
    start = re.match(r"_Z(?:T[VISTCWH])?(N[rVK]*[RO]?)?", name)
    if not start:
        return None
    at, parts = start.end(), 0
    while length := re.compile(r"[1-9]\d{0,3}").match(name, at):
        at, parts = length.end() + int(length[0]), parts + 1
        if not start[1]:
            break
    if not parts:
        return None
    opening = re.escape(name[: start.start(1)]) + "N[rVK]*[RO]?" if start[1] else name[: start.end()]
    structor = re.match(r"[CD]\d", name[at:]) if start[1] else None
    ending = f"{structor[0][0]}[0-3]" if structor else ""
    return f"{opening}{re.escape(name[start.end() : at])}{ending}"


def plain_form(demangled: str, *, strings: bool) -> str:
    """Return a demangled name without blanks, for comparison.

    Args:
        demangled: by any demangler.
        strings: also without what tells the string types of libstdc++'s two ABIs and of libc++ apart.
    """
    text = re.sub(r"\s+", "", demangled)
    if strings:
        text = text.replace("std::__1::", "std::").replace("std::__cxx11::", "std::").replace(TAG, "")
    # Linkers print what the standard abbreviates (`Ss`, `So`) as typedefs, c++filt in full.
    text = text.replace(OLD_STRING, "std::string")
    return re.sub(r"std::basic_([io]+stream)<char,std::char_traits<char>>", r"std::\1", text)


def namesakes(symbol: Symbol, library: ElfFile) -> list[Namesake]:
    """Return what a library exports under the qualified name of a symbol, the closest first."""
    pattern = pattern_of(symbol)
    if pattern is None:
        return []
    found = library.exports_like(re.compile(rb"%b[^\0]*" % pattern.encode()), MOST)
    if not found:
        return []
    plain = demangled_names([*found, symbol.text] if symbol.mangled else found)
    wanted = plain.get(symbol.text, symbol.text) if symbol.mangled else symbol.text
    if symbol.mangled and wanted == symbol.text:  # no demangler: only the name can be compared
        return [Namesake(name, name, same=False, exact=False) for name in found]
    exact, same = plain_form(wanted, strings=False), plain_form(wanted, strings=True)
    name_only = plain_form(qualified(wanted), strings=True)
    result = [
        Namesake(
            name,
            text,
            same=plain_form(text, strings=True) == same,
            exact=plain_form(text, strings=False) == exact,
        )
        for name in found
        if plain_form(qualified(text := plain.get(name, name)), strings=True) == name_only
    ]
    return sorted(result, key=lambda each: (not each.exact, not each.same, len(each.plain)))


def string_of(symbol: Symbol) -> str | None:
    """Return whose std::string a symbol shows: "new", "old" (libstdc++'s ABIs), "libc++", or None if it shows none."""
    text = symbol.text
    if (LIBCXX if symbol.mangled else "std::__1::") in text:
        return "libc++"
    if "__cxx11" in text or "B5cxx11" in text or TAG in text:
        return "new"
    if symbol.mangled:
        return "old" if "Ss" in _grammar(text) else None
    return "old" if re.search(r"std::(?:string|basic_string<char)\b", text) else None


def _grammar(mangled: str) -> str:
    """Return a mangled name without its identifiers, which may contain anything."""
    kept, at, length = "", 0, re.compile(r"[1-9]\d{0,3}")
    while found := length.search(mangled, at):
        kept += mangled[at : found.start()] + " "
        at = found.end() + int(found[0])
    return kept + mangled[at:]
