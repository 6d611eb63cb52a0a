"""The chaos run's judgement: a checker that cannot fail would prove nothing."""

import random
from array import array
from collections import Counter

import pytest

from bench.chaos.blind import DECISIONS, Sighted, first_decisions
from bench.chaos.faults import Fault
from bench.chaos.outcome import Outcome
from bench.chaos.pauses import Struck, pauses_by_fault, served_again_s
from bench.chaos.run import ChaosSettings, faults_in_order
from bench.chaos.verdicts import Expected, Heard, Piece, Verdict, judge, tally
from radixroute.protos import radixroute_pb2 as pb

IDS = (5, 6, 7, 8, 9, 7)
TEXT = "abcdec"
EXPECTED = Expected(IDS, TEXT)
DEATHS = "two workers were lost with this request: it will not be tried again (request %s)"


def heard(**more) -> Heard:
    """A whole stream in three pieces."""
    pieces = [Piece(at, IDS[at : at + 2], TEXT[at : at + 2]) for at in (0, 2, 4)]
    return Heard(**{"prompt": 0, "pieces": pieces, "is_finished": True, **more})


def cut(n_pieces: int, **more) -> Heard:
    return heard(pieces=heard().pieces[:n_pieces], is_finished=False, **more)


def test_a_whole_stream_is_whole():
    assert judge(heard(), EXPECTED) is Verdict.WHOLE


@pytest.mark.parametrize("at", range(3))
def test_a_piece_that_is_dropped_or_repeated_is_seen(at):
    dropped, repeated = heard(), heard()
    del dropped.pieces[at]
    repeated.pieces.insert(at, repeated.pieces[at])
    assert judge(dropped, EXPECTED) is Verdict.MISSING
    assert judge(repeated, EXPECTED) is Verdict.DUPLICATED


@pytest.mark.parametrize("at", range(len(IDS)))
def test_a_token_that_is_dropped_or_repeated_is_seen_though_positions_were_made_to_agree(at):
    for ids in (IDS[:at] + IDS[at + 1 :], IDS[: at + 1] + IDS[at:]):
        pieces = [Piece(position, (token,), "") for position, token in enumerate(ids)]
        assert judge(heard(pieces=pieces), EXPECTED) is not Verdict.WHOLE


def test_text_that_does_not_agree_is_seen():
    pieces = heard().pieces
    pieces[1] = Piece(2, pieces[1].token_ids, "cc")
    assert judge(heard(pieces=pieces), EXPECTED) is Verdict.DIFFERENT


@pytest.mark.parametrize(
    ("stream", "verdict"),
    [
        (cut(2), Verdict.LOST),
        (cut(0), Verdict.LOST),
        (cut(2, is_hung=True), Verdict.HUNG),
        (cut(2, error=DEATHS % "1f"), Verdict.CLEAN_ERROR),
        (
            cut(2, error="lost the router at 127.0.0.1:1 before the answer was complete"),
            Verdict.LOST,
        ),
        (cut(2, error="internal error (request 1f)"), Verdict.LOST),
    ],
)
def test_how_a_stream_may_end(stream, verdict):
    assert judge(stream, EXPECTED) is verdict


def test_an_error_excuses_nothing_that_came_before_it():
    stream = cut(2, error=DEATHS % "1f")
    stream.pieces[1] = Piece(2, (1, 2), "cd")
    assert judge(stream, EXPECTED) is Verdict.DIFFERENT


def test_the_record_counts_every_stream_once_and_reasons_without_ids():
    ids = [f"{number:032x}" for number in range(3)]
    streams = [heard(), *(cut(1, error=DEATHS % one) for one in ids), cut(1)]
    found = tally(streams, [EXPECTED])
    assert not found.is_sound
    assert tally(streams[:-1], [EXPECTED]).is_sound
    outcome = Outcome(
        faults=Counter({Fault.ENGINE: 2, Fault.ROUTER_PAUSED: 1}),
        tally=found,
        pauses_s=[0.1] * 5,
        by_fault_s={Fault.ENGINE: [0.1, 0.9], Fault.WORKER_PAUSED: [3.9, 4.1]},
        silent_after_s=3.0,
        mended_s=[1.0],
        served_again_s=[10.1, 3.0],
        sighted=Sighted(2000, 12),
        log_complaints=0,
        resumes=Counter(by_clients=1),
    )
    record = outcome.record
    assert (record["requests"], record["whole"], record["lost"]) == (5, 1, 1)
    assert record["clean_errors"] == {DEATHS % "...": 3}
    assert record["kills"] == {"engine": 2}
    assert record["stops"] == {"router_paused": 1}
    missed = [row.name for row in outcome.rows if not row.is_met]
    assert missed == ["lost", "worker_paused.p99", "router.serves"]


def at(*moments: float) -> Heard:
    return Heard(0, moments=array("d", moments))


def test_a_pause_belongs_to_the_fault_that_it_fell_under():
    engine, router = Struck(Fault.ENGINE, 10.0, 13.0), Struck(Fault.ROUTER, 20.0, 24.0)
    streams = [
        at(0.0, 5.0, 9.9, 10.4, 10.5, 12.0),  # 5.0 s were over before
        at(9.0, 10.2, 10.3, 12.9, 16.0, 19.9, 20.1, 23.1, 23.2),
        at(11.0, 19.0),  # not open at either hit
        at(1.0, 9.8),
        at(5.0, 11.0, 11.1),  # what it had waited before is not the fault's
    ]
    found = pauses_by_fault(streams, [engine, router])
    assert {fault: [round(s, 6) for s in waits] for fault, waits in found.items()} == {
        Fault.ENGINE: [1.5, 3.1, 1.0],
        Fault.ROUTER: [3.0],
    }


def test_a_router_serves_again_with_the_first_message_after_the_silence_of_all():
    streams = [at(19.0, 20.05, 23.5, 24.0), at(19.5, 20.2), at(19.9, 20.01, 23.0, 23.1)]
    (seconds,) = served_again_s(streams, [Struck(Fault.ROUTER, 20.0, 24.0)])
    assert round(seconds, 6) == 3.0
    assert served_again_s(streams, [Struck(Fault.ENGINE, 20.0, 24.0)]) == []


def test_a_decision_is_blind_when_its_worker_had_what_the_router_knew_nothing_of():
    def ended(at_ns: int, cached: int, predicted: int) -> pb.EndedRequest:
        return pb.EndedRequest(
            dispatched_ns=at_ns, first_token_ns=at_ns, cached_tokens=cached,
            predicted_tokens=predicted,
        )  # fmt: skip

    entries = [ended(2, 64, 64), ended(1, 64, 0), ended(3, 0, 0), ended(4, 64, 16)]
    assert first_decisions([*entries, pb.EndedRequest(cached_tokens=64)]) == Sighted(4, 1)
    many = [ended(n, 64, 0) for n in range(1, 2 * DECISIONS)]
    assert first_decisions(many[::-1]) == Sighted(DECISIONS, DECISIONS)


def test_stops_come_on_top_of_the_kills_asked_for():
    faults = faults_in_order(ChaosSettings(kills=20), random.Random(0))
    assert sum(fault.kills for fault in faults) == 20
    assert faults[-1].kills
    assert set(faults[: len(Fault)]) == set(Fault)
