"""The page of codes is the table; a page of metrics is read as it stands."""

from radixroute.doctor.page import Page
from radixroute.doctor.table import CHECKS
from tests.doctor.evidences import PAGE
from tests.tools import doctor_docs


def test_the_page_has_every_code_as_the_table_says_it():
    assert doctor_docs.PAGE.read_text() == doctor_docs.page(), (
        "run python -m tests.tools.doctor_docs"
    )
    assert all(f"| `{check.code}` |" in doctor_docs.page() for check in CHECKS)


def test_numbers_of_a_page_by_label_in_all_and_above_a_bound():
    page = Page(PAGE.encode())
    assert page.by("radixroute_worker_resting", "worker") == {"a": 0.0, "b": 0.0}
    assert page.total("radixroute_queue_requests") == 3.0
    assert page.share_above("radixroute_loop_lag_seconds", 0.25) == (1.0, 1001.0)
    assert page.share_above("radixroute_loop_lag_seconds", 0.1) == (11.0, 1001.0)
    assert page.share_above("radixroute_loop_lag_seconds", 0.3) == (0.0, 0.0)
    assert Page().total("x") == 0.0
