"""The fixtures of tests.cli.lint.conftest, for the unit tests of that room."""

from tests.cli.lint.conftest import *  # noqa: F403 - pytest looks fixtures up by name
