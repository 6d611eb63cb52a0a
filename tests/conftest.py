"""Hooks and fixtures of the whole suite."""

from tests.e2e.skips import pytest_runtest_makereport
from tests.e2e.wheel import wheel

__all__ = ["pytest_runtest_makereport", "wheel"]
