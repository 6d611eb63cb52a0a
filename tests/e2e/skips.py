"""A skipped e2e test is a failure where everything it needs must be there: as root in CI."""

import os
from collections.abc import Generator
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    report = yield
    is_skip = report.skipped and not hasattr(report, "wasxfail")
    if is_skip and item.get_closest_marker("e2e") and _must_run():
        report.outcome = "failed"
        report.longrepr = f"e2e tests may not be skipped in CI: {report.longrepr}"
    return report


def _must_run() -> bool:
    return os.environ.get("CI") == "true" and os.getuid() == 0
