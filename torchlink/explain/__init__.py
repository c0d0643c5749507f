"""From the log of a failed build, link, load or run to its causes and their fixes."""
