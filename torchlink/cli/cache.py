"""`torchlink cache`: show, fill or delete the cache."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Command, CommandGroup, Option, only
from torchlink.cli.output import answer, notes, say
from torchlink.shown import visible
from torchlink.verify.options import DEFAULTS, VerifyOptions

EPILOG = """\b
Examples:
  torchlink cache show
  torchlink cache show --json
  torchlink cache warm --aoti   # for a container image
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


EPILOG_WARM = """\b
Examples:
  torchlink cache warm
  torchlink cache warm --libtorch /opt/libtorch --compiler clang++ --aoti

\b
In a Dockerfile, for containers that any user runs:
  ENV TORCHLINK_CACHE_DIR=/opt/torchlink-cache
  RUN torchlink cache warm --aoti && chmod -R go+rX /opt/torchlink-cache
"""


class WarmArguments(NamedTuple):
    """The command line of `torchlink cache warm`."""

    libtorch: options.Libtorch = None
    python: options.Python = None
    aoti: Annotated[bool, Option("--aoti", "Also build the loader for models compiled by AOTInductor.")] = (
        False
    )
    verify: Annotated[VerifyOptions, only(options.VERIFY, "via", "plan", "compiler")] = DEFAULTS
    json: options.Json = False


def warm(arguments: WarmArguments) -> int:
    """Build the loaders that `torchlink verify` uses, without running a model.

    A later `verify` with the same libtorch, compiler and options compiles nothing, also where a container image
    brings the cache. Loaders that are in the cache already are not built again.
    """
    from torchlink.cli.planning import locate
    from torchlink.cli.progress import Display
    from torchlink.errors import FileError
    from torchlink.paths import ELSEWHERE, cache_dir
    from torchlink.report.cache import loaders_json, loaders_text
    from torchlink.verify.building import build_loaders
    from torchlink.verify.programs import AOTI, TORCHSCRIPT
    from torchlink.verify.verification import Hooks

    libtorch = locate(arguments.libtorch, arguments.python)
    programs = (TORCHSCRIPT, AOTI) if arguments.aoti else (TORCHSCRIPT,)
    with Display() as display:

        def compiling(sentence: str) -> None:
            display.show(sentence)
            if not display.watched:
                say(f"torchlink: {visible(sentence)} …", err=True)

        built = build_loaders(libtorch, arguments.verify, programs, Hooks(compiling=compiling, noted=notes))
    if not all(loader.path.is_relative_to(cache_dir()) for loader in built.values()):
        raise FileError(f"Nothing is kept: the cache {cache_dir()} cannot be used.", hint=ELSEWHERE)
    if arguments.json:
        import json

        answer(json.dumps(loaders_json(built), indent=2))
    else:
        say(loaders_text(built), end="")
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
    {
        "show": Command(CacheArguments, show),
        "warm": Command(WarmArguments, warm, EPILOG_WARM),
        "clear": Command(CacheArguments, clear),
    },
    help="Show, fill or delete the cache: built loaders, what compilers reported about themselves, logs.\n\n"
    "It can be deleted at any time, even while torchlink runs.",
    epilog=EPILOG,
)
