"""`torchlink cache`: show or delete the cache."""

from __future__ import annotations

from typing import NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Command, CommandGroup
from torchlink.cli.output import answer, say
from torchlink.shown import visible

EPILOG = """\b
Examples:
  torchlink cache show
  torchlink cache show --json
  torchlink cache clear
  TORCHLINK_CACHE_DIR=/somewhere torchlink verify
"""


class CacheArguments(NamedTuple):
    """The command line of `torchlink cache show` and `clear`."""

    json: options.Json = False


def show(arguments: CacheArguments) -> int:
    """Print where the cache is and what is in it."""
    from torchlink.compilation import cache
    from torchlink.paths import cache_dir
    from torchlink.report.cache import to_json, to_text

    kept = cache.contents()
    if arguments.json:
        import json

        answer(json.dumps(to_json(cache_dir(), kept), indent=2))
    else:
        say(to_text(cache_dir(), kept, cache.KINDS), end="")
    return 0


def clear(arguments: CacheArguments) -> int:
    """Delete everything in the cache that torchlink put there, and nothing else."""
    from torchlink.compilation import cache
    from torchlink.paths import cache_dir
    from torchlink.report.cache import size_text

    freed = cache.clear()
    if arguments.json:
        import json

        answer(json.dumps({"schema": 1, "path": str(cache_dir()), "freed": freed}, indent=2))
    else:
        say(f"{visible(str(cache_dir()))}: {size_text(freed)} deleted")
    return 0


COMMAND = CommandGroup(
    {"show": Command(CacheArguments, show), "clear": Command(CacheArguments, clear)},
    help="Show or delete the cache: built loaders, what compilers reported about themselves, logs.\n\n"
    "It can be deleted at any time, even while torchlink runs.",
    epilog=EPILOG,
)
