"""`torchlink cache`: what was built and kept, and getting rid of it."""

from __future__ import annotations

import typer

from torchlink.cli.options import JsonOption
from torchlink.cli.output import answer, say
from torchlink.shown import visible

EPILOG = """\b
Examples:
  torchlink cache show
  torchlink cache show --json
  torchlink cache clear
  TORCHLINK_CACHE_DIR=/somewhere torchlink verify
"""

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    epilog=EPILOG,
    help="Show or delete what torchlink keeps: built loaders, what compilers said of themselves, logs.\n\n"
    "Everything in it can be deleted at any time, also while torchlink runs.",
)


@app.command()
def show(*, json: JsonOption = False) -> None:
    """Show where the cache is and what is in it."""
    from torchlink.build import housekeeping
    from torchlink.paths import cache_dir
    from torchlink.report.cache import to_json, to_text

    kept = housekeeping.contents()
    if json:
        import json as codec

        answer(codec.dumps(to_json(cache_dir(), kept), indent=2))
    else:
        say(to_text(cache_dir(), kept, housekeeping.KINDS), end="")


@app.command()
def clear(*, json: JsonOption = False) -> None:
    """Delete everything that torchlink keeps, and nothing else."""
    from torchlink.build import housekeeping
    from torchlink.paths import cache_dir
    from torchlink.report.cache import size_text

    freed = housekeeping.clear()
    if json:
        import json as codec

        answer(codec.dumps({"schema": 1, "path": str(cache_dir()), "freed": freed}, indent=2))
    else:
        say(f"{visible(str(cache_dir()))}: {size_text(freed)} deleted")
