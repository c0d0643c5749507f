"""The dynamic loader of a machine or image: its family, default directories, ld.so.cache, `$LIB` and `$PLATFORM`.

All of it is read from files; nothing is run.

Source for ld.so.cache: glibc's `dl-cache.h`, the format since 2.2 with the extension for glibc-hwcaps (2.33).
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
CACHE_PATH = "/etc/ld.so.cache"
PRELOAD_PATH = "/etc/ld.so.preload"
MUSL_DIRS = ("/lib", "/usr/local/lib", "/usr/lib")
MUSL_LOADER = re.compile(r"/ld-musl-([^/]+)\.so\.1$")
LARGEST_LOADER = 16 << 20  # bytes; a loader has 0.2 MiB
RELEASE = re.compile(
    rb" release version (\d+)\.(\d+)"
)  # in the loader since 2.33, which answers to --version
WITHOUT_LEGACY = (2, 37)  # the first release that searches no legacy hardware directories
BEFORE_RELEASE = (2, 32)  # the newest that a loader without its release in it can be
PLATFORM_FIELD = 0xF << 48
TLS_BIT = 1 << 63


class LibraryCache:
    """A parsed ld.so.cache. A damaged file counts as empty, as it does for the loader.

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
        """The number of entries; 0 for a file that is cut off."""
        if not self._blob:
            return 0
        (count,) = struct.unpack_from(self._order + "I", self._blob, 20)
        return int(count) if HEADER_SIZE + count * ENTRY_SIZE <= len(self._blob) else 0

    def _entry(self, number: int) -> tuple[bytes, int, int, int]:
        """Return an entry's name, flags, hwcap and the offset of its path."""
        flags, key, value, _, hwcap = self._shape.unpack_from(self._blob, HEADER_SIZE + number * ENTRY_SIZE)
        return self._blob[key : max(self._blob.find(b"\0", key), key)], flags, hwcap, value

    def _named(self, name: bytes) -> Iterator[tuple[int, int, int]]:
        """Yield (flags, hwcap, offset of the path) of every entry with this name, in the file's order.

        The entries are sorted in descending order, and the loader does a binary search, as is done here.
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
        """Return the path that the loader finds in the cache for a NEEDED name, or None.

        Args:
            name: SONAME, e.g. `libz.so.1`.
            flags: those of the machine's entries; others are skipped.
            hwcaps: returns the processor's glibc-hwcaps names, the best first; called only when entries need it.
            legacy: whether the loader accepts an entry with these bits, which identify a legacy hardware
                directory; None for a loader since 2.37, which accepts none.
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
    """Return the sort key of entries: runs of digits as numbers, above every other byte (`_dl_cache_libcmp`)."""
    return [256 + whole_number(part) if part.isdigit() else part[0] for part in RUNS(name)]


class LoaderSystem(NamedTuple):
    """Everything that a search depends on besides the binaries and the environment."""

    family: str  # "glibc" | "musl"
    interpreter: str | None  # path of the loader as it sees it; None if there is none
    default_dirs: tuple[str, ...]  # in order, without a slash at the end
    lib: str  # the value of `$LIB`
    kernel_platform: str  # AT_PLATFORM, from the kernel
    tree: Root
    cache_flags: tuple[int, ...] = ()
    cache: LibraryCache | None = None
    known_hwcaps: tuple[str, ...] | None = None  # None: those of this machine's processor, read when needed
    preload: tuple[str, ...] = ()  # names in /etc/ld.so.preload
    # the loader's own, () where it is not known; up to 2.36 it searches legacy hardware directories
    release: tuple[int, ...] = ()
    own_platform: bool = (
        False  # it replaces AT_PLATFORM by `haswell` or `xeon_phi` on processors of that kind
    )
    # legacy hardware subdirectories that its release knows of this machine, with their bits; the processor decides
    legacy_bits: tuple[tuple[str, int], ...] = ()

    @property
    def platform(self) -> str:
        """The value of `$PLATFORM` on this machine's processor."""
        return (self.own_platform and host_cpu().intel_platform) or self.kernel_platform

    @property
    def searches_legacy(self) -> bool:
        """Whether the loader is a glibc before 2.37, which searches legacy hardware subdirectories."""
        return self.family == "glibc" and () < self.release < WITHOUT_LEGACY

    def legacy_subdirectories(self) -> tuple[str, ...]:
        """Return the legacy hardware subdirectories that may be nested, in glibc's order.

        `("tls", "haswell", "avx512_1", "x86_64")` means that `tls/haswell/avx512_1/x86_64` is searched first, and
        then every selection of them, in the order of a binary number that counts down (`_dl_important_hwcaps`).
        """
        if not self.searches_legacy:
            return ()
        important = [name for name, _ in reversed(self.legacy_bits) if host_cpu().has(name)]
        return ("tls", *filter(None, (self.platform,)), *important)

    def _takes_legacy(self, hwcap: int) -> bool:
        """Whether the loader accepts an entry of ld.so.cache with these bits."""
        ours = sum(1 << bit for name, bit in self.legacy_bits if host_cpu().has(name))
        if hwcap & ~(ours | PLATFORM_FIELD | TLS_BIT):
            return False
        wanted = PLATFORM_BITS.get(self.platform)
        platform = hwcap & PLATFORM_FIELD
        return not platform or (wanted is not None and platform == 1 << wanted)

    def for_any_cpu(self) -> LoaderSystem:
        """Return the loader without the directories that it searches on some processors only."""
        return self._replace(known_hwcaps=(), release=(), own_platform=False)

    def cached(self, name: str) -> str | None:
        """Return the path in ld.so.cache for a NEEDED name, or None."""
        if self.cache is None:
            return None
        legacy = self._takes_legacy if self.searches_legacy else None
        return self.cache.lookup(name, self.cache_flags, self.hwcaps, legacy)

    def hwcaps(self) -> tuple[str, ...]:
        """Return the glibc-hwcaps subdirectories that are searched, the best first."""
        return host_hwcaps() if self.known_hwcaps is None else self.known_hwcaps


def system_for(
    elf: ElfFile, root: Path | None = None, interpreter: str | None = None, *, tree: Root | None = None
) -> LoaderSystem:
    """Return the loader that would load `elf` on this machine, or in the image below `root`.

    Its default directories come from its own file; nothing is run. A program names its loader; for a library it is
    `interpreter`, else the machine's usual one, or musl's where only that exists or the library was linked with it.
    `tree` replaces the view of the files that `root` gives.
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
    """Return the release in a glibc loader's bytes: (2, 36); (2, 32) for one too old to contain it, () for none."""
    if not blob:
        return ()
    found = RELEASE.search(blob)
    return (int(found[1]), int(found[2])) if found else BEFORE_RELEASE


def usual_loader(elf: ElfFile, tree: Root) -> str | None:
    """Return the path of the loader that a machine's programs name, where it exists."""
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
    """Return the content of a system file, empty if it cannot be read."""
    try:
        descriptor = open_descriptor(tree.on_host(path))
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a FIFO must not be waited for
            return file.read(LARGEST_LOADER) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except (OSError, ValueError) as error:
        not_about_the_file(path, error)
        return b""


def system_dirs(blob: bytes) -> tuple[str, ...]:
    """Return the default directories in the bytes of a glibc loader, without their trailing slashes.

    They are consecutive strings, each with a trailing slash; nothing is found if there is only one.
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
    """Return the path of the cache in the bytes of a glibc loader, else the usual one."""
    end = blob.find(b"/ld.so.cache\0") + len(b"/ld.so.cache")
    start = blob.rfind(b"\0", 0, end) + 1
    named = blob[start:end]
    return os.fsdecode(named) if named.startswith(b"/") else CACHE_PATH


def library_token(first: str) -> str:
    """Return `$LIB`, from the first default directory: `lib/x86_64-linux-gnu`, `lib64`, `lib`."""
    start = first.find("/lib")
    return first[start + 1 :] if start >= 0 else "lib"


def preload_names(text: bytes) -> tuple[str, ...]:
    """Return the names in /etc/ld.so.preload: separated by white space or colons, `#` starts a comment."""
    lines = (line.partition(b"#")[0] for line in text.splitlines())
    return tuple(
        name.decode("utf-8", "surrogateescape") for line in lines for name in line.replace(b":", b" ").split()
    )


def musl_dirs(tree: Root, interpreter: str, arch: str) -> tuple[str, ...]:
    """Return the directories in musl's path file, or its built-in ones where there is no such file."""
    prefix = os.path.dirname(os.path.dirname(interpreter)).rstrip("/")  # noqa: PTH120 - plain strings
    file = f"{prefix}/etc/ld-musl-{arch}.path"
    if not exists(tree.on_host(file)):
        return MUSL_DIRS
    return tuple(
        filter(None, read(tree, file).decode("utf-8", "surrogateescape").replace(":", "\n").split("\n"))
    )
