"""Hooks of the whole suite."""

from tests.e2e.skips import pytest_runtest_makereport

__all__ = ["pytest_runtest_makereport"]
