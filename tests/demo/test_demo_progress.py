"""A request of the demo is given up when nothing comes for anybody, not when it takes long."""

import asyncio

import pytest

from radixroute.demo.errors import AskFailed
from radixroute.demo.progress import Progress
from tests.demo import virtual_time

STALL_S = 10.0


async def pieces(*pauses_s, then=None):
    """One after each pause; then an end, or for ever nothing."""
    for pause_s in pauses_s:
        await asyncio.sleep(pause_s)
        yield pause_s
    if then is not None:
        await then.wait()


async def collected(progress, source):
    return [piece async for piece in progress.watched(source)]


def test_a_slow_request_lives_as_long_as_others_go_on():
    async def run():
        progress = Progress(STALL_S)
        slow = collected(progress, pieces(100.0, 1.0))
        others = collected(progress, pieces(*[5.0] * 20))
        return await asyncio.gather(slow, others)

    slow, others = virtual_time.run(run())
    assert (len(slow), len(others)) == (2, 20)


def test_it_is_given_up_once_nothing_comes_for_anybody_and_says_so():
    async def run():
        progress = Progress(STALL_S)
        never = asyncio.Event()
        loop = asyncio.get_running_loop()
        stuck = [
            collected(progress, pieces(4.0, then=never)),
            collected(progress, pieces(7.0, 99.0)),
        ]
        failed = await asyncio.gather(*stuck, return_exceptions=True)
        return loop.time(), failed

    took_s, failed = virtual_time.run(run())
    assert took_s == 17.0  # ten seconds after the last token of either
    for one in failed:
        with pytest.raises(AskFailed, match=r"^no token came for 10 s, for this or any other"):
            raise one


def test_a_request_sent_after_a_long_pause_has_its_whole_time():
    async def run():
        progress = Progress(STALL_S)
        await collected(progress, pieces(1.0))
        await asyncio.sleep(1000.0)
        return await collected(progress, pieces(9.0))

    assert virtual_time.run(run()) == [9.0]


def test_leaving_early_closes_what_was_watched():
    closed = []

    async def source():
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    async def run():
        watched = Progress(STALL_S).watched(source())
        async for _ in watched:
            break
        await watched.aclose()

    virtual_time.run(run())
    assert closed == [True]
