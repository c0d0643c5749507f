"""The fixtures of tests.report.conftest, for the unit tests of that room."""

from tests.report.conftest import *  # noqa: F403 - pytest looks fixtures up by name
