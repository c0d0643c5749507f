"""The fixtures of tests.lint.conftest, for the unit tests of that room."""

from tests.lint.conftest import *  # noqa: F403 - pytest looks fixtures up by name
