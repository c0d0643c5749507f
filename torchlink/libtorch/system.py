"""What the system itself brings: libraries that are everywhere, and those its loader finds."""

from __future__ import annotations

import os
from functools import lru_cache

from torchlink.libtorch.disk import exists, read_bytes

# The C and C++ runtime, and the driver's libraries, which come with the driver and never with torch.
EVERYWHERE = frozenset(
    {"libc", "libm", "libdl", "librt", "libpthread", "libutil", "libgcc_s", "libstdc++", "ld64"}
    | {"libcuda", "libnvidia-ml", "libze_loader"}
)
LOADERS = ("ld-linux", "ld-musl")
DEFAULT_DIRS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")
CACHE = "/etc/ld.so.cache"


def on_every_system(name: str) -> bool:
    """Whether a SONAME is the C runtime's, the C++ runtime's or a driver's."""
    return name.partition(".so")[0] in EVERYWHERE or name.startswith(LOADERS)


def system_has(name: str, arch: str) -> bool:
    """Whether this system's loader finds a SONAME by default; another machine's is assumed to."""
    if not hasattr(os, "uname") or arch != os.uname().machine:
        return True
    if f"\0{name}\0".encode() in loader_cache():
        return True
    directories = (*DEFAULT_DIRS, f"/lib/{arch}-linux-gnu", f"/usr/lib/{arch}-linux-gnu")
    return any(exists(f"{directory}/{name}") for directory in directories)


@lru_cache(maxsize=1)
def loader_cache() -> bytes:
    """The bytes of glibc's cache; SONAMEs stand in it between NULs."""
    return read_bytes(CACHE)
