"""Rejections by field: few names, and none that a client makes up."""

import pytest

from radixroute.request.errors import InvalidRequest
from radixroute.router.api.rejections import MOST_FIELDS, Rejections
from radixroute.router.errors import RequestRejected, Unauthenticated


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (InvalidRequest("messages[3].content", "x"), "messages"),
        (InvalidRequest("sampling.top_p", "x"), "sampling.top_p"),
        (InvalidRequest("My secret", "x"), "other"),
        (RequestRejected("an engine said so"), "worker"),
        (Unauthenticated("x"), "authorization"),
    ],
)
def test_what_is_wrong_is_counted_by_the_field(error, name):
    rejections = Rejections()
    rejections.add(error)
    assert rejections.by_field == {name: 1}


def test_fields_are_few_whatever_clients_send():
    rejections = Rejections()
    for at in range(3 * MOST_FIELDS):
        rejections.add(InvalidRequest(f"field{at}", "x"))
    assert len(rejections.by_field) == MOST_FIELDS + 1
    assert rejections.by_field["other"] == 2 * MOST_FIELDS
