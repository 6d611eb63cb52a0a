"""Where answers part: the first token that differs, and a tie only where the reference was near."""

from bench.numerics.verdict import TIE, Answer, Parting, Tally, record

REFERENCE = Answer((5, 6, 7, 8), (2.0, TIE / 2, 2 * TIE, 1.0))


def tally_of(*answers):
    tally = Tally("batched")
    for number, got in enumerate(answers):
        tally.compare(number, REFERENCE, got)
    return tally


def test_the_same_answer_counts_whole():
    tally = tally_of([5, 6, 7, 8], [5, 6, 7, 8])
    assert (tally.requests, tally.tokens, tally.partings) == (2, 8, [])


def test_only_the_first_difference_counts_and_nothing_behind_it_is_compared():
    tally = tally_of([5, 9, 9, 9], [5, 6, 9, 8])
    assert tally.tokens == 2 + 3
    assert tally.ties == [Parting("batched", 0, 1, TIE / 2)]
    assert tally.differences == [Parting("batched", 1, 2, 2 * TIE)]


def test_the_record_adds_the_ways_up_and_names_each_parting():
    told = record([tally_of([5, 9, 9, 9]), tally_of([5, 6, 9, 8]), tally_of([5, 6, 7, 8])])
    assert (told["tokens"], told["ties"], told["differences"]) == (2 + 3 + 4, 1, 1)
    assert told["partings"] == [
        {"way": "batched", "prompt": 0, "at": 1, "margin": TIE / 2},
        {"way": "batched", "prompt": 0, "at": 2, "margin": 2 * TIE},
    ]
