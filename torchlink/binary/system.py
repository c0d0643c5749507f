"""ld.so.cache: what ldconfig found in the directories of ld.so.conf, by name.

Source: glibc's `dl-cache.h`: the format since 2.2, with the extension for glibc-hwcaps (2.33).

The loader of a machine or image: its family, default directories, cache, `$LIB` and `$PLATFORM`.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import sys
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.data import open_descriptor
from torchlink.binary.platforms import (
    LEGACY_BITS,
    ON_X86,
    PLATFORM_BITS,
    PLATFORMS,
    UNKNOWN,
    host_cpu,
    host_hwcaps,
)
from torchlink.binary.tree import Root
from torchlink.bounds import whole_number
from torchlink.status import exists, is_file, not_about_the_file

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from torchlink.binary.elf import ElfFile


MAGIC = b"glibc-ld.so.cache1.1"
HEADER_SIZE = 48
ENTRY_SIZE = 24
RUNS = re.compile(rb"\d{1,9}|\D", re.DOTALL).findall
EXTENSION_MAGIC = 0xEAA42174
HWCAPS_SECTION = 1
HWCAP_EXTENSION = 1 << 30  # bit 62 of the 64-bit field: the low half is an index of a glibc-hwcaps name
ISA_LEVEL_MASK = 0x3FF
BIG_ENDIAN_CACHE = 3


class LibraryCache:
    """A parsed ld.so.cache. What is damaged in it is left out, as the loader leaves the whole file out.

    Args:
        blob: the file; the old format in front of the new one is skipped.
    """

    def __init__(self, blob: bytes) -> None:
        start = blob.find(MAGIC)
        self._blob = blob[start:] if start >= 0 and len(blob) - start >= HEADER_SIZE else b""
        self._order = "<"
        if self._blob:
            marked = self._blob[28] & 3
            big = marked == BIG_ENDIAN_CACHE or (marked == 0 and sys.byteorder == "big")
            self._order = ">" if big else "<"
        self._shape = struct.Struct(self._order + "iIIIQ")

    @cached_property
    def _count(self) -> int:
        """How many entries there are, those of a file that is cut off not counted."""
        if not self._blob:
            return 0
        (count,) = struct.unpack_from(self._order + "I", self._blob, 20)
        return int(count) if HEADER_SIZE + count * ENTRY_SIZE <= len(self._blob) else 0

    def _entry(self, number: int) -> tuple[bytes, int, int, int]:
        """Name, flags, hwcap and offset of the path of one entry."""
        flags, key, value, _, hwcap = self._shape.unpack_from(self._blob, HEADER_SIZE + number * ENTRY_SIZE)
        return self._blob[key : max(self._blob.find(b"\0", key), key)], flags, hwcap, value

    def _named(self, name: bytes) -> Iterator[tuple[int, int, int]]:
        """(flags, hwcap, offset of the path) of every entry with this name, in the file's order.

        The entries are sorted, the last name first, and the loader searches them by halves, as is done here.
        """
        wanted = collation(name)
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if collation(self._entry(middle)[0]) > wanted:
                low = middle + 1
            else:
                high = middle
        for number in range(low, self._count):
            found, *rest = self._entry(number)
            if collation(found) != wanted:
                return
            if found == name and rest[-1] < len(self._blob):
                yield rest[0], rest[1], rest[2]

    @cached_property
    def _hwcap_names(self) -> tuple[str, ...]:
        """The glibc-hwcaps names that entries refer to by index."""
        blob, order = self._blob, self._order
        word = struct.Struct(order + "I")
        try:
            (offset,) = word.unpack_from(blob, 32)
            magic, count = struct.unpack_from(order + "II", blob, offset)
            if not offset or magic != EXTENSION_MAGIC:
                return ()
            for number in range(min(count, 64)):
                tag, _, start, size = struct.unpack_from(order + "IIII", blob, offset + 8 + 16 * number)
                if tag == HWCAPS_SECTION:
                    strings = (word.unpack_from(blob, start + step)[0] for step in range(0, size & ~3, 4))
                    return tuple(self._text(string) for string in strings)
        except struct.error:
            pass
        return ()

    def _text(self, offset: int) -> str:
        stop = self._blob.find(b"\0", offset)
        return self._blob[offset : max(stop, offset)].decode("utf-8", "surrogateescape")

    def lookup(
        self,
        name: str,
        flags: Collection[int],
        hwcaps: Callable[[], Sequence[str]],
        legacy: Callable[[int], bool] | None = None,
    ) -> str | None:
        """The path that the loader takes from the cache for a NEEDED name, or None.

        Args:
            name: SONAME, e.g. `libz.so.1`.
            flags: what entries of the machine carry; others are passed over.
            hwcaps: gives the processor's glibc-hwcaps names, the best first; called only when entries ask.
            legacy: whether the loader takes an entry with these bits, which stand for a legacy hardware
                directory; None for a loader since 2.37, which takes none.
        """
        best: tuple[int, str] | None = None
        for entry_flags, hwcap, value in self._named(name.encode("utf-8", "surrogateescape")):
            if entry_flags not in flags:
                continue
            rank = sys.maxsize
            if (hwcap >> 32) & ~ISA_LEVEL_MASK == HWCAP_EXTENSION:
                index, names = hwcap & 0xFFFFFFFF, self._hwcap_names
                if index >= len(names) or names[index] not in hwcaps():
                    continue
                rank = list(hwcaps()).index(names[index])
            elif hwcap and (legacy is None or not legacy(hwcap)):
                continue
            if best is None or rank < best[0]:
                best = (rank, self._text(value))
        return best and best[1]


def collation(name: bytes) -> list[int]:
    """What entries are sorted by: runs of digits as numbers, above every other byte (`_dl_cache_libcmp`)."""
    return [256 + whole_number(part) if part.isdigit() else part[0] for part in RUNS(name)]


CACHE_PATH = "/etc/ld.so.cache"
PRELOAD_PATH = "/etc/ld.so.preload"
MUSL_DIRS = ("/lib", "/usr/local/lib", "/usr/lib")
MUSL_LOADER = re.compile(r"/ld-musl-([^/]+)\.so\.1$")
LARGEST_LOADER = 16 << 20  # bytes; a loader has a fifth of one MiB
RELEASE = re.compile(
    rb" release version (\d+)\.(\d+)"
)  # in the loader since 2.33, which answers to --version
WITHOUT_LEGACY = (2, 37)  # the first release that searches no legacy hardware directories
BEFORE_RELEASE = (2, 32)  # what a loader that does not name its release has at most
PLATFORM_FIELD = 0xF << 48
TLS_BIT = 1 << 63


class LoaderSystem(NamedTuple):
    """All that a dynamic loader brings to a search besides the binaries and the environment."""

    family: str  # "glibc" | "musl"
    interpreter: str | None  # path of the loader as it sees it; None where there is none
    default_dirs: tuple[str, ...]  # in order, without a slash at the end
    lib: str  # what `$LIB` stands for
    kernel_platform: str  # what the kernel says in AT_PLATFORM
    tree: Root
    cache_flags: tuple[int, ...] = ()
    cache: LibraryCache | None = None
    known_hwcaps: tuple[str, ...] | None = None  # None: asked of this machine's processor when needed
    preload: tuple[str, ...] = ()  # names in /etc/ld.so.preload
    # of the loader's own release, () where it is not known; up to 2.36 it searches legacy hardware directories
    release: tuple[int, ...] = ()
    own_platform: bool = (
        False  # it replaces AT_PLATFORM by `haswell` or `xeon_phi` on processors of that kind
    )
    # legacy hardware subdirectories that its release knows of this machine, with their bits; the processor decides
    legacy_bits: tuple[tuple[str, int], ...] = ()

    @property
    def platform(self) -> str:
        """What `$PLATFORM` stands for on this machine's processor."""
        return (self.own_platform and host_cpu().intel_platform) or self.kernel_platform

    @property
    def searches_legacy(self) -> bool:
        """Whether the loader is a glibc before 2.37, which searches legacy hardware subdirectories."""
        return self.family == "glibc" and () < self.release < WITHOUT_LEGACY

    def legacy_subdirectories(self) -> tuple[str, ...]:
        """The legacy hardware subdirectories that may stand behind one another, in glibc's order.

        `("tls", "haswell", "avx512_1", "x86_64")` means that `tls/haswell/avx512_1/x86_64` is searched first, and
        then every selection of them, in the order of a binary number that counts down (`_dl_important_hwcaps`).
        """
        if not self.searches_legacy:
            return ()
        important = [name for name, _ in reversed(self.legacy_bits) if host_cpu().has(name)]
        return ("tls", *filter(None, (self.platform,)), *important)

    def _takes_legacy(self, hwcap: int) -> bool:
        """Whether it takes an entry of ld.so.cache with these bits."""
        ours = sum(1 << bit for name, bit in self.legacy_bits if host_cpu().has(name))
        if hwcap & ~(ours | PLATFORM_FIELD | TLS_BIT):
            return False
        wanted = PLATFORM_BITS.get(self.platform)
        platform = hwcap & PLATFORM_FIELD
        return not platform or (wanted is not None and platform == 1 << wanted)

    def for_any_cpu(self) -> LoaderSystem:
        """The loader as every processor has it: nothing for one kind of processor only is searched."""
        return self._replace(known_hwcaps=(), release=(), own_platform=False)

    def cached(self, name: str) -> str | None:
        """The path that ld.so.cache has for a NEEDED name."""
        if self.cache is None:
            return None
        legacy = self._takes_legacy if self.searches_legacy else None
        return self.cache.lookup(name, self.cache_flags, self.hwcaps, legacy)

    def hwcaps(self) -> tuple[str, ...]:
        """The glibc-hwcaps subdirectories that are searched, the best first."""
        return host_hwcaps() if self.known_hwcaps is None else self.known_hwcaps


def system_for(
    elf: ElfFile, root: Path | None = None, interpreter: str | None = None, *, tree: Root | None = None
) -> LoaderSystem:
    """The loader that would load `elf` on this machine, or in the image below `root`.

    The loader's own file tells its default directories; nothing is run. A program names its loader; for a
    library it is the machine's usual one, or musl's where only that is there or the library asks for it, unless
    `interpreter` names it. `tree` is another view of the files than that of an image below `root`.
    """
    tree = tree or Root(root)
    interpreter = interpreter or elf.interpreter or usual_loader(elf, tree)
    musl = MUSL_LOADER.search(interpreter or "")
    if musl or wants_musl(elf):
        return LoaderSystem(
            family="musl",
            interpreter=interpreter,
            default_dirs=musl_dirs(tree, interpreter or "", musl.group(1) if musl else elf.machine),
            lib="lib",
            kernel_platform="",
            tree=tree,
        )
    known = PLATFORMS.get(elf.machine, UNKNOWN)
    blob = read(tree, interpreter) if interpreter else b""
    dirs = system_dirs(blob) or known.dirs
    return LoaderSystem(
        family="glibc",
        interpreter=interpreter,
        default_dirs=dirs,
        lib=library_token(dirs[0]),
        kernel_platform=known.platform,
        cache_flags=known.cache_flags,
        cache=LibraryCache(read(tree, cache_path(blob))),
        known_hwcaps=None if elf.machine in {"x86_64", "x32"} else (),
        preload=preload_names(read(tree, PRELOAD_PATH)),
        tree=tree,
        release=glibc_release(blob),
        own_platform=elf.machine in {"x86_64", "x32"} and b"haswell\0" in blob,
        legacy_bits=tuple(
            (name, bit)
            for name, bit in LEGACY_BITS.get(elf.machine, {}).items()
            if elf.machine not in ON_X86 or b"avx512_1\0" in blob  # older than 2.26: AT_HWCAP, none important
        ),
    )


def glibc_release(blob: bytes) -> tuple[int, ...]:
    """The release in the bytes of a glibc loader: (2, 36); (2, 32) for one too old to name it, () for none."""
    if not blob:
        return ()
    found = RELEASE.search(blob)
    return (int(found[1]), int(found[2])) if found else BEFORE_RELEASE


def usual_loader(elf: ElfFile, tree: Root) -> str | None:
    """Path of the loader that a machine's programs name, where it is there."""
    names = PLATFORMS.get(elf.machine, UNKNOWN).loaders
    arch = {"x86": "i386", "ppc64le": "powerpc64le"}.get(elf.machine, elf.machine)
    names = (
        (f"/lib/ld-musl-{arch}.so.1", *names) if wants_musl(elf) else (*names, f"/lib/ld-musl-{arch}.so.1")
    )
    return next((name for name in names if is_file(tree.on_host(name))), None)


def wants_musl(elf: ElfFile) -> bool:
    """Whether a library was linked against musl: its C library's SONAME has no version, or names musl."""
    return any(name == "libc.so" or name.startswith("libc.musl-") for name in elf.dynamic.needed)


def read(tree: Root, path: str) -> bytes:
    """A file of the system, or nothing where it cannot be read."""
    try:
        descriptor = open_descriptor(tree.on_host(path))
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a FIFO must not be waited for
            return file.read(LARGEST_LOADER) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except (OSError, ValueError) as error:
        not_about_the_file(path, error)
        return b""


def system_dirs(blob: bytes) -> tuple[str, ...]:
    """The default directories in the bytes of a glibc loader, without a slash at their ends.

    They are one run of strings, each with a slash at its end; nothing is found where there is only one.
    """
    seam = blob.find(b"/\0/")
    if seam < 0:
        return ()
    end = start = blob.rfind(b"\0", 0, seam) + 1
    dirs: list[str] = []
    while blob[end : end + 1] == b"/":
        start, end = end, blob.find(b"\0", end) + 1
        if not end or blob[end - 2 : end - 1] != b"/":
            break
        dirs.append(os.fsdecode(blob[start : end - 2]))
    return tuple(dirs)


def cache_path(blob: bytes) -> str:
    """Path of the cache in the bytes of a glibc loader, else the usual one."""
    end = blob.find(b"/ld.so.cache\0") + len(b"/ld.so.cache")
    start = blob.rfind(b"\0", 0, end) + 1
    named = blob[start:end]
    return os.fsdecode(named) if named.startswith(b"/") else CACHE_PATH


def library_token(first: str) -> str:
    """`$LIB` from the first default directory: `lib/x86_64-linux-gnu`, `lib64`, `lib`."""
    start = first.find("/lib")
    return first[start + 1 :] if start >= 0 else "lib"


def preload_names(text: bytes) -> tuple[str, ...]:
    """The names in /etc/ld.so.preload: separated by white space or colons, `#` starts a comment."""
    lines = (line.partition(b"#")[0] for line in text.splitlines())
    return tuple(
        name.decode("utf-8", "surrogateescape") for line in lines for name in line.replace(b":", b" ").split()
    )


def musl_dirs(tree: Root, interpreter: str, arch: str) -> tuple[str, ...]:
    """The directories in musl's path file, or its built-in ones where there is no such file."""
    prefix = os.path.dirname(os.path.dirname(interpreter)).rstrip("/")  # noqa: PTH120 - plain strings
    file = f"{prefix}/etc/ld-musl-{arch}.path"
    if not exists(tree.on_host(file)):
        return MUSL_DIRS
    return tuple(
        filter(None, read(tree, file).decode("utf-8", "surrogateescape").replace(":", "\n").split("\n"))
    )
