"""The demo's runs against a fake cluster that hangs where it is told to; a test interrupts it."""

import sys
import threading

from radixroute.demo import screen as demo_screen
from radixroute.demo.plan import POLICIES
from radixroute.demo.series import run_demo, started
from radixroute.demo.signals import Interrupted, interruptible
from tests.demo.fake_router import FakeCluster
from tests.demo.test_demo_series import demo

HANG_S = 60.0


class HangingCluster(FakeCluster):
    """Slow where `where` says, else quick."""

    def __init__(self, where):
        super().__init__(POLICIES[0], 100, spoil="hang")
        self.where = where

    def start(self, progress=None):
        super().start(progress)
        if self.where == "slow-start":
            print("starting slowly")
            threading.Event().wait(HANG_S)

    def stop(self):
        if self.where == "slow-stop":
            print("stopping slowly")
            threading.Event().wait(1.0)
        super().stop()
        print("cluster stopped")


def main():
    demo_screen.PLAIN_EVERY_S = 0.0
    shown = demo_screen.TerminalScreen()
    cluster = HangingCluster(sys.argv[1])
    try:
        with interruptible(), started(cluster, shown):
            run_demo(demo(), cluster, shown)
    except Interrupted as interrupted:
        return interrupted.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
