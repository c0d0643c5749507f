"""`python -m torchlink`: the same as the `torchlink` command."""

from torchlink.cli.main import entry

if __name__ == "__main__":
    entry()
