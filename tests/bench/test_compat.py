"""The compat benchmark's own truth: its caches, and what counts as an error in a log."""

import json

from bench.compat.chats import BLOCK_SIZE, ChatWorkload
from bench.compat.dynamo_log import log_lines
from bench.index.concurrent import tokens_of
from radixroute.events.wire.records import BlocksRemoved, BlocksStored


def test_the_truth_is_what_the_events_leave():
    workload = ChatWorkload(workers=2, blocks=700, chats=6, seed=3)
    held: list[set[int]] = [set(), set()]
    for _ in range(120):
        worker, events = workload.turn()
        for event in events:
            if isinstance(event, BlocksStored):
                held[worker].update(event.keys.tolist())
            else:
                assert isinstance(event, BlocksRemoved)
                held[worker].difference_update(event.keys.tolist())
    assert held == [cache.resident_keys() for cache in workload.caches]
    assert workload.removed > 100
    assert workload.stored - workload.removed == sum(map(len, held))
    for prompt in workload.prompts(20):
        assert all(0 <= n <= len(prompt) // BLOCK_SIZE for n in workload.overlaps(prompt))
    whole = workload.chats[0].tokens
    workload.serve(1, whole)
    assert workload.overlaps(whole)[1] == len(whole) // BLOCK_SIZE


def test_unexpected_lines_of_a_log_count():
    lines = [
        json.dumps({"level": level, "message": message})
        for level, message in (
            ("INFO", "ready"),
            ("WARN", "Adding worker 1"),
            ("WARN", "Gap detected: expected seq 0, got 3"),
            ("WARN", "Gap detected: expected seq 4, got 5"),
            ("ERROR", "no"),
            ("ERROR", "no"),
        )
    ]
    found = log_lines("\n".join([*lines, "", "thread 'x' panicked"]))
    assert found == {"Gap detected: expected seq 4, got 5": 1, "no": 2, "thread 'x' panicked": 1}


def test_each_key_has_a_block_of_its_own():
    keys = [1, 2**32, 2**32 + 1, 2**64 - 1]
    blocks = tokens_of(keys).reshape(len(keys), BLOCK_SIZE)
    assert len({tuple(block.tolist()) for block in blocks}) == len(keys)
    assert tokens_of(keys[1:2]).tolist() == blocks[1].tolist()
