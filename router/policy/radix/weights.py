"""Weights: the constants of the radix policy that nothing teaches it.

All other numbers in a cost are learned. One set serves every fleet; docs/policy.md says what each
is worth. Any of them may be varied in the lab (`python -m bench.policy --tune`), so what reads them
is compiled for all values.
"""

from typing import Final, NamedTuple


class Weights(NamedTuple):
    """One set. Milliseconds of a first token for a millisecond of something else, or as said."""

    # Computing, where nobody waits: whoever comes next may.
    compute: float = 0.15
    # Requests that computing may be thought to delay at most, however long everyone waits: that a
    # few workers are crowded while others idle looks like scarcity, too.
    most_delayed: float = 3.0
    # Answers there that take longer because of this request: who waits for 200 ms less may make
    # them a second longer, all together.
    answer: float = 0.005
    # The same of the requests that will follow it there, for which it decides at once; and of those
    # there now, as far as workers differ by more than chance: then it will be so for long.
    answers_to_come: float = 0.05
    # What is computed there pushes something out; on a worker that was given twice the mean lately,
    # what goes is younger and twice as likely to be asked for. No more than a few thousand tokens
    # count: a giant prompt should not wait for a colder cache.
    turnover: float = 0.15
    turnover_tokens: float = 16384.0
    # Of what was lost for want of a copy so much may be spent on one: 1 answers soonest while
    # workers idle, less computes less and is kinder to the tail.
    copies: float = 0.25
    # Prompts join one given in the same instant if their own part is below so many fixed costs of a
    # step: that much the first can wait, since the others save a step each.
    join_steps: float = 4.0
    # A request that waited for so many mean waits goes before the shortest,
    overdue_waits: float = 4.0
    # and so does one of so many mean prefills: it is the tail, and others pass it elsewhere.
    giant_prefills: float = 6.0


WEIGHTS: Final = Weights()
