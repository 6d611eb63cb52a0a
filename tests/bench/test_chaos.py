"""The chaos run's judgement: a checker that cannot fail would prove nothing."""

from collections import Counter

import pytest

from bench.chaos.faults import Fault
from bench.chaos.run import Outcome
from bench.chaos.verdicts import Expected, Heard, Piece, Verdict, judge, tally

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
    outcome = Outcome(Counter({Fault.ENGINE: 2}), found, [0.1] * 5, [1.0], Counter(by_clients=1))
    record = outcome.record
    assert (record["requests"], record["whole"], record["lost"]) == (5, 1, 1)
    assert record["clean_errors"] == {DEATHS % "...": 3}
    assert record["kills"] == {"engine": 2}
    assert [row.name for row in outcome.rows if not row.is_met] == ["lost"]
