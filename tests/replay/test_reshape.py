"""Reshaped traces: the same requests, at other times or fewer of them."""

import numpy as np
import pytest

from radixroute.replay.errors import InvalidShape
from radixroute.replay.traces.reshape import cut, scaled, spread
from tests.replay.traces import assert_sound, blocks_of, random_trace, requests_of, trace_of

SEEDS = range(30)
LAST_NS = 1 << 40


def untimed(trace):
    return sorted((row[1:] for row in requests_of(trace)), key=repr)


def arrivals_by_ids(trace):
    return {tuple(blocks_of(trace, i)): int(trace.arrival_ns[i]) for i in range(len(trace))}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_reshaped_trace_holds_the_same_requests(seed):
    trace = random_trace(seed, last_ns=LAST_NS)
    before = trace.digest
    for other in (scaled(trace, 3.7), spread(trace, seed), spread(trace, seed, 10_000)):
        assert_sound(other)
        assert untimed(other) == untimed(trace)
    assert trace.digest == before


@pytest.mark.parametrize("seed", SEEDS)
def test_speed_divides_every_time(seed):
    trace = random_trace(seed, last_ns=LAST_NS)
    times = arrivals_by_ids(trace)
    for ids, arrival in arrivals_by_ids(scaled(trace, 4)).items():
        assert arrival == round(times[ids] / 4)
    assert scaled(trace, 1).digest == trace.digest


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf"), 1e-12])
def test_a_speed_that_no_trace_has_is_refused(speed):
    with pytest.raises(InvalidShape):
        scaled(random_trace(1, last_ns=LAST_NS), speed)


@pytest.mark.parametrize("bucket_ns", [None, 1_000])
@pytest.mark.parametrize("seed", SEEDS)
def test_shared_timestamps_spread_within_what_they_stand_for(seed, bucket_ns):
    trace = random_trace(seed, last_ns=LAST_NS)
    stamps, sizes = np.unique(trace.arrival_ns[trace.after < 0], return_counts=True)
    count = dict(zip(stamps.tolist(), sizes.tolist(), strict=True))
    gaps = dict(zip(stamps.tolist(), np.diff(stamps).tolist(), strict=False))
    gaps[int(stamps[-1])] = gaps[int(stamps[-2])]
    after = {tuple(blocks_of(trace, i)): int(trace.after[i]) for i in range(len(trace))}
    times = arrivals_by_ids(spread(trace, seed, bucket_ns))
    moved = 0
    for ids, old in arrivals_by_ids(trace).items():
        width = bucket_ns or gaps.get(old, 0)
        if after[ids] >= 0 or count[old] == 1:
            assert times[ids] == old
        else:
            assert old <= times[ids] < old + width
            moved += times[ids] != old
    assert moved > 3


def test_spreading_is_uniform_and_seeded():
    trace = trace_of([(t, 1, 1, [n * 2 + k]) for n in range(4_000) for k, t in ((0, 0), (1, 1000))])
    moved = spread(trace, 7)
    assert moved.digest == spread(trace, 7).digest != spread(trace, 8).digest
    share, _ = np.histogram(moved.arrival_ns, bins=8, range=(0, 2000))
    assert share.min() > 900  # 1,000 expected; six standard deviations would be 823
    assert len(np.unique(moved.arrival_ns)) > 1_900


def test_one_timestamp_needs_a_width():
    trace = trace_of([(5, 1, 1, [n]) for n in range(9)])
    with pytest.raises(InvalidShape, match="bucket_ns"):
        spread(trace, 1)
    assert len(set(spread(trace, 1, 10_000).arrival_ns.tolist())) > 5
    with pytest.raises(InvalidShape, match="1 ns or more"):
        spread(trace, 1, 0)


@pytest.mark.parametrize("n", [1, 7, 39, 40, 41])
def test_a_cut_trace_is_its_beginning(n):
    trace = random_trace(2)
    short = cut(trace, n)
    assert_sound(short)
    assert requests_of(short) == requests_of(trace)[:n]


def test_a_trace_is_not_cut_to_nothing():
    with pytest.raises(InvalidShape):
        cut(random_trace(2), 0)
