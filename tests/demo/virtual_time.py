"""An event loop whose clock jumps to the next timer: think times pass at once, and exactly."""

import asyncio
import selectors


class _JumpingSelector(selectors.SelectSelector):
    """Waits for nothing: where a loop would wait, its clock moves on instead."""

    def __init__(self):
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout=None):
        if timeout is None:
            raise RuntimeError("every task waits for something that never comes")
        self.now_s += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Deterministic: no socket may be used on it."""

    def __init__(self):
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self):
        return self._jumping.now_s


class LoopClock:
    """The replay's clock on whichever loop runs."""

    def now_ns(self):
        return round(asyncio.get_running_loop().time() * 1e9)

    async def sleep(self, seconds):
        await asyncio.sleep(seconds)


def run(coroutine):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
