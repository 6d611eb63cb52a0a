"""`make bench-index`: the prefix index, block keys and event decoding beside NVIDIA Dynamo's.

Both sides run in this process, on one pinned core, in turn within each round; medians over the
rounds. The peer is what a Python user gets: the wheel ai-dynamo-runtime, called from Python, so its
figures contain the binding and the hop to its thread; `floor` is that fixed part. Writes
bench/results/index.json.
"""

import argparse
import gc
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bench.index import decision as index_decision
from bench.index import decode as index_decode
from bench.index import exact as index_exact
from bench.index import growth as index_growth
from bench.index import tree as index_tree
from bench.index.sides import (
    Dynamo,
    DynamoHashes,
    Ours,
    dynamo_events,
    dynamo_removals,
    our_events,
    our_removals,
)
from bench.index.trace import BLOCK_SIZE, SEED, KeyBook, load_trace, place_round_robin, tokens_of
from bench.rows import Row, alone, per_cent_99, rate, timed, write
from radixroute.demo.machine import machine, versions
from radixroute.events.warm import warm
from radixroute.radix.keys.block_keys import as_tokens, block_keys

RESULTS = Path("bench/results/index.json")
ROUNDS = 5
FILL, QUERIES = 3000, 800
HASH_TOKENS = 8192
FLEETS = (8, 64, 256, 1024)
APPLY_REQUESTS = 800


def hash_rows(rounds: int) -> Iterator[Row]:
    """8k tokens at block 16. The peer's best input is a list: an array is four times slower."""
    from dynamo.llm import compute_block_hash_for_seq  # type: ignore[import-not-found]

    tokens = np.concatenate([tokens_of(one) for one in range(HASH_TOKENS // 512)])
    ids = tokens.tolist()
    ours_array, ours_list, peer = list[float](), list[float](), list[float]()
    for _ in range(rounds):
        for into, call in (
            (ours_array, lambda: block_keys(tokens, BLOCK_SIZE, SEED)),
            (peer, lambda: compute_block_hash_for_seq(ids, BLOCK_SIZE)),
            (ours_list, lambda: block_keys(as_tokens(ids), BLOCK_SIZE, SEED)),
        ):
            into.append(_mean_us(call, 300))
    yield timed("hash.numpy", ours_array, peer, bar=2.5)
    yield timed("hash.list", ours_list, peer, bar=1.1)


def match_rows(workers: int, rounds: int) -> Iterator[Row]:
    """3,000 requests stored round-robin; 800 that follow in the trace and 800 of the stored."""
    requests = load_trace(FILL + QUERIES)
    stored, following = requests[:FILL], requests[FILL:]
    placed = place_round_robin(stored, workers)
    book, hashes = KeyBook(), DynamoHashes()
    for ids in requests:
        book.learn(ids)
    ours, peer, empty = Ours(workers), Dynamo(), Dynamo()
    ours.store(our_events(placed, book))
    peer.apply(dynamo_events(placed, hashes))
    queries = following + random.Random(1).sample(stored, QUERIES)
    our_prompts = [book.keys(ids) for ids in queries]
    peer_prompts = [hashes.prompt(ids) for ids in queries]
    _must_agree(ours, peer, our_prompts, peer_prompts)
    clock = time.perf_counter_ns
    means, p99s, peer_means, peer_p99s = [list[float]() for _ in range(4)]
    with _no_collector():
        for _ in range(rounds):
            mine, theirs = list[float](), list[float]()
            for keys, hashed in zip(our_prompts, peer_prompts, strict=True):
                started = clock()
                blocks = ours.index.overlaps(keys).blocks
                mine.append((clock() - started) / 1e3)
                started = clock()
                scores = peer.tree.find_matches(hashed).scores
                theirs.append((clock() - started) / 1e3)
                del blocks, scores  # freeing the peer's dict is nobody's work
            means.append(float(np.mean(mine)))
            p99s.append(per_cent_99(mine))
            peer_means.append(float(np.mean(theirs)))
            peer_p99s.append(per_cent_99(theirs))
        floor = list[float]()
        for hashed in peer_prompts:
            started = clock()
            empty.tree.find_matches(hashed).scores  # noqa: B018 - it is made when asked for
            floor.append((clock() - started) / 1e3)
    bar = 10.0
    yield timed(f"match.w{workers}", means, peer_means, bar, float(np.mean(floor)))
    yield timed(f"match.w{workers}.p99", p99s, peer_p99s, bar, per_cent_99(floor))
    if workers == 64:
        yield alone("match.w64.mean", means[len(means) // 2], "us", 3.0)


def apply_rows(rounds: int) -> Iterator[Row]:
    """Events of 32 blocks onto 64 workers, decoded (ours) and as JSON (the peer's only form)."""
    placed = place_round_robin(load_trace(APPLY_REQUESTS), 64)
    book, hashes = KeyBook(), DynamoHashes()
    for ids in load_trace(APPLY_REQUESTS):
        book.learn(ids)
    mine, theirs = our_events(placed, book), dynamo_events(placed, hashes)
    gone, peer_gone = our_removals(placed, book), dynamo_removals(placed)
    n = sum(len(event.keys) for event in mine)
    stored, removed, peer_stored, peer_removed = [list[float]() for _ in range(4)]
    with _no_collector():
        for _ in range(rounds):
            ours, peer = Ours(64), Dynamo()
            stored.append(_rate(lambda: ours.store(mine), n))  # noqa: B023 - called at once
            peer_stored.append(_rate(lambda: peer.apply(theirs), n))  # noqa: B023
            removed.append(_rate(lambda: ours.remove(gone), n))  # noqa: B023
            peer_removed.append(_rate(lambda: peer.apply(peer_gone), n))  # noqa: B023
            if any(ours.index.n_blocks(holder) for holder in ours.holders):
                raise SystemExit("blocks are left after all were removed")
    yield rate("apply.stored", stored, peer_stored, bar=2.0)
    yield rate("apply.removed", removed, peer_removed, bar=2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", help="rows whose name begins so")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.core})
    warm()
    parts: list[tuple[str, Callable[[], Iterator[Row]]]] = [
        ("hash", lambda: hash_rows(args.rounds)),
        *((f"match.w{w}", lambda w=w: match_rows(w, args.rounds)) for w in FLEETS),
        ("apply", lambda: apply_rows(args.rounds)),
        ("decode", lambda: index_decode.rows(args.rounds)),
        ("decision", lambda: index_decision.rows(args.rounds)),
        ("tree", lambda: index_tree.rows(args.rounds)),
        ("growth", index_growth.rows),
    ]
    rows: list[Row] = []
    for name, part in parts:
        if args.only and not name.startswith(args.only):
            continue
        for row in part():
            rows.append(row)
            _show(row)
    exact = index_exact.compare(range(6)) if args.only in (None, "exact") else {}
    for name, sides in exact.items():
        print(f"exact, {name}: {sides}")
    if not args.only:
        more = {"exact": exact, "curve": index_growth.CURVE, "load_average": os.getloadavg()[0]}
        write(RESULTS, rows, machine(), versions(""), more)
        print(f"written to {RESULTS}")
    missed = [row.name for row in rows if not row.is_met]
    print(f"bars missed: {', '.join(missed) or 'none'}")


def _show(row: Row) -> None:
    peer = "" if row.peer is None else f"peer {row.peer:,.2f}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}x"
    floor = "" if row.floor is None else f"(of which empty call {row.floor:,.1f})"
    bar = "" if row.bar is None else f"bar {row.bar:g} {'met' if row.is_met else 'MISSED'}"
    print(
        f"{row.name:18} {row.ours:16,.2f} {row.unit:9} {peer:24} {ratio:8} {bar} {floor}",
        flush=True,
    )


def _must_agree(ours: Ours, peer: Dynamo, keys: list[np.ndarray], hashed: list[list[int]]) -> None:
    """The same blocks, the same answer: else the times compare nothing."""
    for mine, theirs in list(zip(keys, hashed, strict=True))[::97]:
        found = ours.index.overlaps(mine).blocks
        scores = {worker: n for (worker, _), n in peer.tree.find_matches(theirs).scores.items()}
        expected = [scores.get(worker, 0) for worker in range(len(found))]
        if found.tolist() != expected:
            raise SystemExit(f"overlaps differ: {found.tolist()} and {expected}")


def _mean_us(call: Callable[[], object], n: int) -> float:
    started = time.perf_counter()
    for _ in range(n):
        call()
    return (time.perf_counter() - started) / n * 1e6


def _rate(call: Callable[[], object], n: int) -> float:
    started = time.perf_counter()
    call()
    return n / (time.perf_counter() - started)


class _no_collector:
    """Without the garbage collector: both sides make garbage, and its pauses are nobody's."""

    def __enter__(self) -> None:
        gc.collect()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        gc.enable()


if __name__ == "__main__":
    main()
