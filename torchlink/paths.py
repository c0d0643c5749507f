"""The cache directory, and the data files of the package.

Programs in the cache are run, so it is used only where no other user can have written it: a directory or file is
trusted when it belongs to this user or to root and is not writable by group or others. The directories above it are
checked like sshd's StrictModes, because whoever can write there can replace it: they must belong to this user or to
root and not be writable by others, unless they are sticky like /tmp.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.errors import FileError, UsageError
from torchlink.shown import quoted, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGS = "logs"
MOST_STEPS = 200  # directories and links above a path that are checked
ROOM = 16 << 20  # bytes that must be free: a loader needs one or two MiB, its build a few more
ON_FULL_DISK = "is on a full disk"
ELSEWHERE = "Set TORCHLINK_CACHE_DIR to another directory."
# The address of the published documentation, with a slash at its end; "": it is not published.
SITE = ""
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[!-~]+")
SITE_VARIABLE = "TORCHLINK_DOCS_URL"  # replaces SITE: for a company's own copy
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_lasting: dict[Path, Path] = {}  # unusable caches, and their replacements that outlast this process
_instead: dict[
    str, str
] = {}  # unusable caches, and their replacements that this process deletes when it exits


def cache_dir() -> Path:
    """Return the cache directory, whether or not it can be used; its contents can be deleted at any time.

    It is `TORCHLINK_CACHE_DIR`, else in the platform's user cache directory (`~/.cache/torchlink` on Linux).
    It may not exist yet.
    """
    override = os.environ.get("TORCHLINK_CACHE_DIR")
    if override:
        return Path(os.path.expanduser(override)).absolute()  # noqa: PTH111 - `Path` raises for an unknown user
    platform: str = sys.platform  # mypy would call the rest unreachable on the platform it runs on
    if platform == "linux":
        # The XDG rule as in platformdirs, whose import would cost 5 ms at every start.
        base = os.environ.get("XDG_CACHE_HOME", "")  # a relative one is to be ignored
        return (Path(base) if os.path.isabs(base) else home() / ".cache") / "torchlink"  # noqa: PTH117 - text
    from platformdirs import user_cache_path

    return user_cache_path("torchlink", appauthor=False)


def home() -> Path:
    """Return this user's home directory: HOME, else the one in the user database, which may not exist."""
    named = os.environ.get("HOME", "")
    if os.path.isabs(named):  # noqa: PTH117 - text
        return Path(named)
    import pwd

    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a user id without an entry, as in containers with arbitrary user ids
        return Path("/nonexistent")


def working_directory() -> str:
    """Return the current directory as `$PWD` names it, if that is correct, with its links, as CMake does."""
    named = os.environ.get("PWD", "")
    try:
        if os.path.isabs(named) and os.path.samefile(named, "."):  # noqa: PTH117, PTH121 - text, as os.getcwd gives
            return named
    except OSError:
        pass
    return os.getcwd()  # noqa: PTH109


def distrust(path: Path) -> str | None:
    """Return why a directory or file of the cache is not trusted; None: it is trusted, or missing."""
    if not hasattr(os, "geteuid"):  # Windows: the profile's own access list
        return None
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            if status.st_uid not in (os.geteuid(), 0):
                return f"is a link of user {status.st_uid}"
            status = os.stat(path)  # noqa: PTH116 - on the path of every start
    except (OSError, ValueError):  # opening it will report the error
        return None
    if status.st_uid not in (os.geteuid(), 0):
        return f"belongs to user {status.st_uid}"
    return "can be written by other users" if status.st_mode & OTHERS_WRITE else None


def distrust_above(path: Path) -> str | None:
    """Return why other users could replace a path, as a clause; None: they cannot."""
    if not hasattr(os, "geteuid"):
        return None
    # The owner of `/` can do everything; in a user namespace that is not user 0.
    trusted = {os.geteuid(), 0, os.stat("/").st_uid}  # noqa: PTH116 - on the path of every start
    for directory in _above(path):
        try:
            status = os.stat(directory)  # noqa: PTH116
        except (OSError, ValueError):  # it does not exist yet
            continue
        if status.st_uid not in trusted:
            return f"is in {directory}, which belongs to user {status.st_uid}"
        writers = status.st_mode & OTHERS_WRITE
        if writers == stat.S_IWGRP and _is_own_group(status.st_gid):
            continue
        if writers and not status.st_mode & stat.S_ISVTX:
            return f"is in {directory}, which other users can write to"
    return None


def _above(path: Path) -> Iterator[str]:
    """Yield the directories above a path, and those above the targets of links in it."""
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
    """Whether a group is the user's private group, as many systems create for each user, without other members."""
    import grp
    import pwd

    try:
        name, entry = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return entry.gr_name == name and not set(entry.gr_mem) - {name}


def unused(kind: str = "") -> tuple[Path, str] | None:
    """Return the cache directory, or that of one kind of entries, where it is not trusted, and why; else None."""
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
    """Return the directory of one kind of entries in the cache; it may not exist yet.

    Where the cache is not trusted, it is in a private directory that this process deletes when it exits, except for
    logs.
    """
    root = cache_dir()
    if str(root) in _instead:
        return Path(_instead[str(root)]) / kind
    found = unused(kind)
    return Path(_private(*found, remedy(*found))) / kind if found else root / kind


def made_in(kind: str) -> Path:
    """Return the directory of `kept_in` after creating it, accessible to this user only.

    Raises:
        OSError: it cannot be created.
    """
    return _made(kept_in(kind)) or kept_in(kind)  # None: another user has created it meanwhile


def _made(place: Path) -> Path | None:
    """Create the directory of one kind of entries and its parents; None if it is another user's."""
    if not os.environ.get("TORCHLINK_CACHE_DIR") and place.is_relative_to(home()):
        os.stat(home())  # noqa: PTH116 - a missing home is not created
    absent = [each for each in place.parent.parents if not each.exists()]
    for directory in (*reversed(absent), place.parent, place):
        directory.mkdir(mode=0o700, exist_ok=True)
    return place if distrust(place.parent) is distrust(place) is None else None


def usable(kind: str) -> Path:
    """Return the directory of `made_in` if it has free space, else one in a private directory as for `kept_in`.

    Raises:
        OSError: there is no space for temporary files either, or TORCHLINK_CACHE_DIR is not a directory.
    """
    place = kept_in(kind)
    reason = _why_not(place)
    if reason is not None:
        place = Path(_private(cache_dir(), reason, ELSEWHERE)) / kind
        place.mkdir(mode=0o700, exist_ok=True)
    return place


def leave_cache(reason: str) -> bool:
    """Use a private directory instead of the cache from now on, and print a note.

    Args:
        reason: why, as a clause about the cache.

    Returns:
        False if that changes nothing: it is used already, or the disk for temporary files has no room either.
    """
    import tempfile

    space = os.statvfs(tempfile.gettempdir())
    if str(cache_dir()) in _instead or space.f_bavail * space.f_frsize < ROOM:
        return False
    _private(cache_dir(), reason, ELSEWHERE)
    return True


def _why_not(place: Path) -> str | None:
    """Create the directory of one kind of entries; return why it cannot be written, or None.

    Raises:
        OSError: TORCHLINK_CACHE_DIR is not a directory: an explicit setting is not ignored.
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
        return "cannot be created: a file is in its place"
    except FileNotFoundError:
        return f"cannot be created: no such directory: {home()}"
    except OSError as error:
        return f"cannot be created: {error.strerror}"
    return ON_FULL_DISK if space.f_bavail * space.f_frsize < ROOM else None


def lasting(kind: str) -> Path:
    """Return the directory of `made_in` for files that are read after this process has exited.

    Where the cache cannot be written, it is in a temporary directory of this user, and a note says so.

    Raises:
        FileError: the cache is not trusted.
        OSError: there is no space for temporary files either.
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
        _note(
            f"the cache {root} is not used: it {reason}. Files that outlast this process are in {instead}. {ELSEWHERE}"
        )
    return instead / kind


def _note(remark: str) -> None:
    print(f"torchlink: note: {visible(remark)}", file=sys.stderr)


def close_to_others(directory: Path) -> None:
    """Remove write permission for group and others from a directory and its contents; a umask such as 002 grants it.

    Raises:
        OSError: the permissions cannot be changed.
    """
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o7777 & ~OTHERS_WRITE)


def remedy(place: Path, reason: str) -> str:
    """Return a hint on how to make an untrusted cache directory usable."""
    if reason.startswith("is in"):
        return "Set TORCHLINK_CACHE_DIR to a directory that only you and root can write to, as well as all above it."
    return (
        f"Run `chmod go-w {quoted(str(place))}` if it is yours, or set TORCHLINK_CACHE_DIR to "
        "another directory."
    )


def _private(place: Path, reason: str, advice: str) -> str:
    """Return this process's private directory that replaces a cache; the first time, print a note."""
    root = str(cache_dir())
    if root not in _instead:
        import atexit
        import tempfile

        _instead[root] = tempfile.mkdtemp(prefix="torchlink-")
        atexit.register(_delete, Path(_instead[root]), os.getpid())
        _note(f"the cache {place} is not used: it {reason}. {advice}")
    return _instead[root]


def _delete(directory: Path, process: int) -> None:
    """Delete a private directory except its logs, which error messages refer to."""
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
    """Return the directory of a kind of data files: `templates`, `examples`, `docs` or `causes`.

    In a wheel they are inside the package; in a checkout (and an editable install) at the top level.
    """
    package = Path(__file__).parent
    packed = package / "_data" / kind
    return packed if packed.is_dir() else package.parent / kind


def page_address(page: str) -> str:
    """Return where a page of the documentation is: its address, else the command that prints it.

    Args:
        page: its name, such as `rules/abi-mismatch`.

    Raises:
        UsageError: TORCHLINK_DOCS_URL is not an address.
    """
    site = os.environ.get(SITE_VARIABLE) or SITE
    if site and not ADDRESS.fullmatch(site):
        raise UsageError(
            f"{SITE_VARIABLE}: not an address: {visible(site)}.",
            hint="Set it to one such as https://docs.example.org/torchlink.",
        )
    return f"{site.rstrip('/')}/{page}/" if site else f"torchlink docs {page}"


def page_reference(page: str) -> str:
    """Return what a report for people says about where a page is: the command that prints it, and its address."""
    address = page_address(page)
    command = f"torchlink docs {page}"
    return command if address == command else f"{address} ({command})"
