"""Bits are drawn ahead, each once."""

import os

from radixroute.router.api.random_bits import RandomBits


def test_none_are_given_twice_and_the_system_is_seldom_asked(monkeypatch):
    asked = []

    def urandom(n):
        asked.append(n)
        return os.getrandom(n)

    monkeypatch.setattr("radixroute.router.api.random_bits.os.urandom", urandom)
    bits = RandomBits()
    drawn = [bits.getrandbits(64) for _ in range(1000)]
    assert len(set(drawn)) == 1000
    assert all(0 <= one < 1 << 64 for one in drawn)
    assert len(asked) < 10
    assert bits.getrandbits(128) < 1 << 128
