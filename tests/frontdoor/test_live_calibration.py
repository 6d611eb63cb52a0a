"""What answers of a running engine say about its passes: which times count, and as what."""

import pytest

from radixroute.live.calibration import Answer, alone, decode_rows

MS = 1_000_000


def answer(first, n, gap, sent=-5):
    return Answer(10, sent * MS, token_ns=[(first + gap * place) * MS for place in range(n)])


def test_decoding_is_timed_by_how_many_decode_and_not_while_prompts_are_computed():
    rows = decode_rows([answer(0, 20, 10), answer(95, 11, 10, sent=81)])
    assert [(row.decoding, row.ms) for row in rows] == [(1, 10.0), (2, 10.0)]
    # The first is alone with 1 to 8 tokens, the other at its end with 10.
    assert rows[0].context_tokens == pytest.approx(10 + (sum(range(1, 9)) + 10) / 9)
    assert rows[1].context_tokens == pytest.approx(20 + 15 + 5.5, abs=1)
    assert decode_rows([answer(0, 3, 10)]) == []  # too few to make a mean
    assert decode_rows([]) == []


def test_tokens_that_came_together_took_as_many_passes():
    one = Answer(10, -1, token_ns=[n // 2 * 14 * MS for n in range(20)])
    (row,) = decode_rows([one])
    assert row.ms == 7.0


def test_prompts_that_met_on_a_worker_are_not_alone():
    there, met = answer(20, 1, 1, sent=0), answer(30, 1, 1, sent=15)
    after, elsewhere = answer(60, 1, 1, sent=31), answer(20, 1, 1, sent=0)
    elsewhere.worker_id = "b"
    assert alone([there, met, after, elsewhere]) == [after, elsewhere]
