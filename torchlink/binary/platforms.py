"""Properties of glibc's loaders on each machine that cannot be read from their own files.

Source: glibc's `ldconfig.h` (cache flags), `shlib-versions` (loader names), `dl-hwcaps-subdirs.c`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from torchlink.status import not_about_the_file


class Platform(NamedTuple):
    """One machine under glibc."""

    loaders: tuple[str, ...]  # PT_INTERP of its programs, the usual first
    cache_flags: tuple[int, ...]  # of its entries in ld.so.cache
    platform: str  # AT_PLATFORM, `$PLATFORM`
    dirs: tuple[str, ...]  # default directories, used where the loader's file is missing
    triple: str = ""  # the GNU and Debian name of the machine: `aarch64-linux-gnu`


def platform(loaders: str, flags: tuple[int, ...], name: str, triple: str, lib: str = "lib") -> Platform:
    """Make a platform with its multiarch directories before the plain ones."""
    plain = (lib,) if lib == "lib" else (lib, "lib")
    dirs = (f"lib/{triple}", f"usr/lib/{triple}", *(f"{top}{each}" for each in plain for top in ("", "usr/")))
    return Platform(tuple(loaders.split()), flags, name, tuple(f"/{each}" for each in dirs), triple)


PLATFORMS = {
    "x86_64": platform("/lib64/ld-linux-x86-64.so.2", (0x303,), "x86_64", "x86_64-linux-gnu", "lib64"),
    "x86": platform("/lib/ld-linux.so.2", (0x3,), "i686", "i386-linux-gnu"),
    "x32": platform("/libx32/ld-linux-x32.so.2", (0x803,), "x86_64", "x86_64-linux-gnux32", "libx32"),
    "aarch64": platform("/lib/ld-linux-aarch64.so.1", (0xA03,), "aarch64", "aarch64-linux-gnu", "lib64"),
    "arm": platform(
        "/lib/ld-linux-armhf.so.3 /lib/ld-linux.so.3", (0x903, 0xB03, 0x3), "v7l", "arm-linux-gnueabihf"
    ),
    "ppc64le": platform("/lib64/ld64.so.2", (0x503,), "power8", "powerpc64le-linux-gnu", "lib64"),
    "ppc64": platform("/lib64/ld64.so.1", (0x503,), "power4", "powerpc64-linux-gnu", "lib64"),
    "riscv64": platform(
        "/lib/ld-linux-riscv64-lp64d.so.1", (0x1003, 0xF03), "riscv64", "riscv64-linux-gnu", "lib64/lp64d"
    ),
    "s390x": platform("/lib/ld64.so.1", (0x403,), "z900", "s390x-linux-gnu", "lib64"),
    "loongarch64": platform(
        "/lib64/ld-linux-loongarch-lp64d.so.1",
        (0x1203, 0x1103),
        "loongarch64",
        "loongarch64-linux-gnu",
        "lib64",
    ),
}
UNKNOWN = Platform((), (), "", ("/lib64", "/usr/lib64", "/lib", "/usr/lib"))

# The subdirectories of glibc-hwcaps, the best first, with the flags in /proc/cpuinfo that each requires.
X86_LEVELS = (
    ("x86-64-v4", frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})),
    ("x86-64-v3", frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"})),
    ("x86-64-v2", frozenset({"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"})),
)


# Up to 2.36 glibc's `$PLATFORM` and legacy hardware subdirectories on x86 (`cpu_features.c`, `dl-hwcap.h`).
HASWELL = frozenset({"avx2", "fma", "bmi1", "bmi2", "abm", "movbe", "popcnt"})
XEON_PHI = frozenset({"avx512cd", "avx512er", "avx512pf"})
AVX512_1 = frozenset({"avx512cd", "avx512bw", "avx512dq", "avx512vl"})
# The bit of AT_HWCAP, or of glibc's own field that replaces it on x86, for each important subdirectory.
LEGACY_BITS = {
    "x86_64": {"x86_64": 1, "avx512_1": 2},
    "x32": {"x86_64": 1, "avx512_1": 2},
    "x86": {"sse2": 0},
    "aarch64": {"atomics": 8},
}
# The bit that an entry of ld.so.cache has for a platform subdirectory.
PLATFORM_BITS = {"i586": 48, "i686": 49, "haswell": 50, "xeon_phi": 51}
ON_X86 = frozenset({"x86_64", "x32", "x86"})


class Cpu(NamedTuple):
    """A processor as /proc/cpuinfo shows it."""

    vendor: str = ""
    flags: frozenset[str] = frozenset()

    @property
    def intel_platform(self) -> str | None:
        """The value that glibc uses instead of AT_PLATFORM on Intel's processors; None on others."""
        if self.vendor != "GenuineIntel":
            return None
        if self.flags >= XEON_PHI:
            return "xeon_phi"
        return "haswell" if self.flags >= HASWELL else None

    def has(self, subdirectory: str) -> bool:
        """Whether the loader searches a legacy hardware subdirectory of `LEGACY_BITS`."""
        if subdirectory == "avx512_1":
            return self.vendor == "GenuineIntel" and self.flags >= AVX512_1 and "avx512er" not in self.flags
        return subdirectory == "x86_64" or subdirectory in self.flags


def x86_hwcaps(flags: frozenset[str]) -> tuple[str, ...]:
    """Return the glibc-hwcaps subdirectories for a processor with these /proc/cpuinfo flags, the best first."""
    taken: list[str] = []
    for name, needed in reversed(X86_LEVELS):
        if not needed <= flags:
            break
        taken.insert(0, name)
    return tuple(taken)


@lru_cache(maxsize=1)
def host_cpu() -> Cpu:
    """Return this machine's processor."""
    vendor = ""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("vendor_id"):
                    vendor = line.partition(":")[2].strip()
                elif line.startswith(("flags", "Features")):
                    return Cpu(vendor, frozenset(line.partition(":")[2].split()))
    except OSError as error:
        not_about_the_file("/proc/cpuinfo", error)
    return Cpu(vendor)


def host_hwcaps() -> tuple[str, ...]:
    """Return the glibc-hwcaps subdirectories of this machine's processor; none on processors other than x86."""
    return x86_hwcaps(host_cpu().flags)
