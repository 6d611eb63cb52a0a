"""Copies of a trace: as many requests as asked, in order, that share nothing between copies."""

from itertools import pairwise

import numpy as np

from bench.replay.growth import AT_ONCE, copies
from radixroute.replay.traces.reshape import cut
from radixroute.replay.traces.trace import prefixes
from tests.replay.conversation import conversation


def test_copies_are_what_the_trace_is_and_share_nothing():
    once = cut(conversation(), 40)
    many = copies(once, 2000)
    assert len(many) == 2000
    assert (np.diff(many.arrival_ns) >= 0).all()
    assert len(many.blocks) == many.first_block[-1]
    copy = many.blocks // (int(once.blocks.max()) + 1)
    of = np.array([set(copy[a:b]) for a, b in pairwise(many.first_block.tolist())])
    assert all(len(copies_of) == 1 for copies_of in of)
    assert len(set().union(*of)) > AT_ONCE, "they go on one after the other"
    alone, together = prefixes(once, 64), prefixes(many, 64)
    mine = [request for request in range(len(many)) if of[request] == {3}]
    assert [len(together.of(request)) for request in mine] == np.diff(alone.first).tolist()
    distinct = len(set(np.concatenate([together.of(request) for request in mine]).tolist()))
    assert distinct == len(set(alone.nodes.tolist()))
