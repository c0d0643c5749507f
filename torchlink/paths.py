"""Where torchlink keeps things: the cache, and the data files that come with the package.

What the cache holds is run and believed, so it is used only where nobody else can have written it: a directory or
file counts when it belongs to this user or to root and neither its group nor others may write to it. The directories
above are checked as sshd's StrictModes checks them, for who may write there can put another in its place: they
belong to this user or to root, and nobody else may write to them, unless they are sticky as /tmp is.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.errors import FileError
from torchlink.shown import quoted, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGS = "logs"
MOST_STEPS = 200  # on the way to a path, links followed
ROOM = 16 << 20  # bytes: a loader takes one or two, what it is built from a few more
ELSEWHERE = "Name another directory with TORCHLINK_CACHE_DIR."
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_lasting: dict[Path, Path] = {}  # the same, for what outlasts this process
_instead: dict[str, str] = {}  # caches that are not used, and the private directories of this process


def cache_dir() -> Path:
    """The directory of everything that can be deleted at any time, whether it is used or not.

    `TORCHLINK_CACHE_DIR` wins; otherwise the platform's user cache directory (`~/.cache/torchlink` on Linux).
    It may not exist yet.
    """
    override = os.environ.get("TORCHLINK_CACHE_DIR")
    if override:
        return Path(os.path.expanduser(override)).absolute()  # noqa: PTH111 - `Path` raises for an unknown user
    platform: str = sys.platform  # mypy would call the rest unreachable on the platform it runs on
    if platform == "linux":
        # The XDG rule, as platformdirs has it, without the 5 ms that importing it costs every start.
        base = os.environ.get("XDG_CACHE_HOME", "")  # a relative one is to be ignored
        return (Path(base) if os.path.isabs(base) else home() / ".cache") / "torchlink"  # noqa: PTH117 - text
    from platformdirs import user_cache_path

    return user_cache_path("torchlink", appauthor=False)


def home() -> Path:
    """This user's home directory: HOME, else what the system has on record, which may not exist."""
    named = os.environ.get("HOME", "")
    if os.path.isabs(named):  # noqa: PTH117 - text
        return Path(named)
    import pwd

    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a user without a record, as in containers that are run under any number
        return Path("/nonexistent")


def working_directory() -> str:
    """The current directory by the name that its user came by, as CMake takes it: `$PWD`, if it is true."""
    named = os.environ.get("PWD", "")
    try:
        if os.path.isabs(named) and os.path.samefile(named, "."):  # noqa: PTH117, PTH121 - text, as os.getcwd gives
            return named
    except OSError:
        pass
    return os.getcwd()  # noqa: PTH109


def distrust(path: Path) -> str | None:
    """Why a directory or file of the cache is not used; None: it is, or it is not there."""
    if not hasattr(os, "geteuid"):  # Windows: the profile's own access list
        return None
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            if status.st_uid not in (os.geteuid(), 0):
                return f"is a link of user {status.st_uid}"
            status = os.stat(path)  # noqa: PTH116 - on the path of every start
    except (OSError, ValueError):  # whoever opens it says more
        return None
    if status.st_uid not in (os.geteuid(), 0):
        return f"belongs to user {status.st_uid}"
    return "can be written by other users" if status.st_mode & OTHERS_WRITE else None


def distrust_above(path: Path) -> str | None:
    """Why a directory above a path lets others replace it, as a clause; None: none does."""
    if not hasattr(os, "geteuid"):
        return None
    # Whoever owns `/` can do everything; in a user namespace that is not 0.
    trusted = {os.geteuid(), 0, os.stat("/").st_uid}  # noqa: PTH116 - on the path of every start
    for directory in _above(path):
        try:
            status = os.stat(directory)  # noqa: PTH116
        except (OSError, ValueError):  # it is still to be made
            continue
        if status.st_uid not in trusted:
            return f"is in {directory}, which belongs to user {status.st_uid}"
        writers = status.st_mode & OTHERS_WRITE
        if writers == stat.S_IWGRP and _is_own_group(status.st_gid):
            continue
        if writers and not status.st_mode & stat.S_ISVTX:
            return f"is in {directory}, to which other users can write"
    return None


def _above(path: Path) -> Iterator[str]:
    """The directories above a path, and those above what links on the way lead to."""
    waiting = [os.path.abspath(path)]  # noqa: PTH100 - links are followed one by one
    seen: set[str] = set()
    while waiting:
        child = waiting.pop()
        directory = os.path.dirname(child)  # noqa: PTH120 - plain strings
        if child in seen or len(seen) > MOST_STEPS:
            continue
        seen.add(child)
        if directory != child:
            yield directory
            waiting.append(directory)
        if os.path.islink(child):  # noqa: PTH114
            waiting.append(os.path.normpath(os.path.join(directory, os.readlink(child))))  # noqa: PTH115, PTH118


def _is_own_group(group: int) -> bool:
    """Whether a group is the user's private one, which many systems make with each user: nobody else is in it."""
    import grp
    import pwd

    try:
        name, entry = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return entry.gr_name == name and not set(entry.gr_mem) - {name}


def unused(kind: str = "") -> tuple[Path, str] | None:
    """The directory of the cache, or of one kind of things in it, that is not used, and why."""
    root = cache_dir()
    above = distrust_above(root)
    if above is not None:
        return root, above
    for place in (root, root / kind) if kind else (root,):
        reason = distrust(place)
        if reason is not None:
            return place, reason
    return None


def kept_in(kind: str) -> Path:
    """The directory of one kind of things in the cache; it may not exist yet.

    Where the cache is not used, one of a private directory that this process deletes at its end, logs aside.
    """
    root = cache_dir()
    if str(root) in _instead:
        return Path(_instead[str(root)]) / kind
    found = unused(kind)
    return Path(_private(*found, remedy(*found))) / kind if found else root / kind


def made_in(kind: str) -> Path:
    """As `kept_in`, and there; what is made is open to this user alone.

    Raises:
        OSError: it cannot be made.
    """
    return _made(kept_in(kind)) or kept_in(kind)  # None: somebody was faster with a directory of their own


def _made(place: Path) -> Path | None:
    """Make the directory of one kind of things and that above it; None where another user did."""
    if not os.environ.get("TORCHLINK_CACHE_DIR") and place.is_relative_to(home()):
        os.stat(home())  # noqa: PTH116 - a home that is not there is not for us to make
    absent = [each for each in place.parent.parents if not each.exists()]
    for directory in (*reversed(absent), place.parent, place):
        directory.mkdir(mode=0o700, exist_ok=True)
    return place if distrust(place.parent) is distrust(place) is None else None


def usable(kind: str) -> Path:
    """As `made_in`, and with room to write; where that cannot be, in a private directory as for `kept_in`.

    Raises:
        OSError: there is no room for temporary files either, or something else is where the cache is named.
    """
    place = kept_in(kind)
    reason = _why_not(place)
    if reason is not None:
        place = Path(_private(cache_dir(), reason, ELSEWHERE)) / kind
        place.mkdir(mode=0o700, exist_ok=True)
    return place


def _why_not(place: Path) -> str | None:
    """Make the directory of one kind of things; why nothing can be written there, or None.

    Raises:
        OSError: something else is where TORCHLINK_CACHE_DIR names it: what is named so is not passed over.
    """
    try:
        if _made(place) is None:
            return "can be written by others"
        if not os.access(place, os.W_OK | os.X_OK):
            return "cannot be written"
        space = os.statvfs(place)
    except (FileExistsError, NotADirectoryError):
        if os.environ.get("TORCHLINK_CACHE_DIR"):
            raise
        return "cannot be made, for a file is in its way"
    except FileNotFoundError:
        return f"cannot be made, for there is no directory {home()}"
    except OSError as error:
        return f"cannot be made: {error.strerror}"
    return "is on a disk that is full" if space.f_bavail * space.f_frsize < ROOM else None


def lasting(kind: str) -> Path:
    """As `made_in`, for what is read after the end of this process.

    Where the cache cannot be written, in a directory of this user for temporary files; a note says so.

    Raises:
        FileError: the cache is not used.
        OSError: there is no room for temporary files either.
    """
    found = unused(kind)
    if found:
        refused, untrusted = found
        raise FileError(f"The cache {refused} is not used: it {untrusted}.", hint=remedy(*found))
    root = cache_dir()
    reason = _why_not(root / kind)
    if reason is None:
        return root / kind
    import tempfile

    instead = Path(tempfile.gettempdir()) / f"torchlink-{os.getuid()}"
    for directory in (instead, instead / kind):
        directory.mkdir(mode=0o700, exist_ok=True)
        wrong = distrust(directory)
        if wrong is not None:
            raise FileError(f"The cache {root} {reason}, and {directory} {wrong}.", hint=ELSEWHERE)
    if root not in _lasting:
        _lasting[root] = instead
        _note(f"the cache {root} is not used: it {reason}. What lasts is kept in {instead}. {ELSEWHERE}")
    return instead / kind


def _note(remark: str) -> None:
    print(f"torchlink: note: {visible(remark)}", file=sys.stderr)


def close_to_others(directory: Path) -> None:
    """Take from others the right to write into a directory that a umask such as 002 has given them.

    Raises:
        OSError: it cannot be taken.
    """
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o7777 & ~OTHERS_WRITE)


def remedy(place: Path, reason: str) -> str:
    """What to do about a place of the cache that is not used."""
    if reason.startswith("is in"):
        return (
            "Name a directory with TORCHLINK_CACHE_DIR that only you and root can write to, and all above it."
        )
    return (
        f"Run `chmod go-w {quoted(str(place))}` if it is yours, or name another directory with "
        "TORCHLINK_CACHE_DIR."
    )


def _private(place: Path, reason: str, advice: str) -> str:
    """The directory of this process alone that stands in for a cache; the first time a note says so."""
    root = str(cache_dir())
    if root not in _instead:
        import atexit
        import tempfile

        _instead[root] = tempfile.mkdtemp(prefix="torchlink-")
        atexit.register(_delete, Path(_instead[root]), os.getpid())
        _note(f"the cache {place} is not used: it {reason}. {advice}")
    return _instead[root]


def _delete(directory: Path, process: int) -> None:
    """Delete a private directory, but for logs, which an error has named."""
    import contextlib
    import shutil

    if os.getpid() != process:
        return
    for child in directory.iterdir():
        if child.name != LOGS:
            shutil.rmtree(child, ignore_errors=True)
    with contextlib.suppress(OSError):
        directory.rmdir()


def data_dir(kind: str) -> Path:
    """The directory of a kind of data files: `templates` or `examples`.

    In a wheel they lie inside the package; in a checkout (and an editable install) at the top level.
    """
    package = Path(__file__).parent
    packed = package / "_data" / kind
    return packed if packed.is_dir() else package.parent / kind
