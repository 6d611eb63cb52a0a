"""The long fuzzer of the decoders: it runs, and it notices what it is for."""

import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from radixroute.events.errors import RemoteEventError
from tests.tools import fuzz_events
from tests.tools.fuzz_events import MAX_GROWTH_BYTES, Target, fuzz

ROOT = Path(__file__).resolve().parents[2]


def test_every_decoder_takes_some_inputs_and_refuses_others():
    tally = fuzz(seed=1, inputs=20_000)
    assert len(tally.accepted) == len(tally.refused) == 12
    assert min(tally.accepted.values()) > 30
    assert min(tally.refused.values()) > 300


def only(monkeypatch, decode):
    samples = [[b"rr1", bytes(8), b"\x93\x01\x02\x03"]]
    monkeypatch.setattr(fuzz_events, "targets", lambda rng: {"faulty": Target(decode, samples)})


def test_another_error_comes_out_with_the_input_that_caused_it(monkeypatch):
    def faulty(frames):
        if frames[-1][:1] != b"\x93":
            raise KeyError("not ours")
        raise RemoteEventError("refused")

    only(monkeypatch, faulty)
    with pytest.raises(KeyError) as caught:
        fuzz(seed=7, inputs=1000)
    assert caught.value.__notes__[0].startswith("seed 7, input ")


def test_a_decoder_that_keeps_what_it_read_is_seen_to_grow(monkeypatch):
    kept = []

    def leaky(frames):
        kept.append(mmap.mmap(-1, 1 << 16))  # what the allocator has free does not hide it
        kept[-1].write(b"x" * (1 << 16))
        return kept

    only(monkeypatch, leaky)
    assert fuzz(seed=1, inputs=1000).growth > 2 * MAX_GROWTH_BYTES
    for memory in kept:
        memory.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_million_inputs_and_memory_stays_flat():
    """In a process of its own, so that nothing else's memory is measured."""
    command = [sys.executable, "-m", "tests.tools.fuzz_events"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
