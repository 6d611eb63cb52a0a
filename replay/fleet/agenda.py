"""Agenda of a simulated fleet: when which worker's step ends, and who may begin one.

A tournament over the workers' ends, so that finding the next one costs the logarithm of their
number, and a list of those to whom something happened. Helpers of `kernels`, compiled into
them; the arrays are laid out in `layout`.
"""

import numpy as np

from radixroute.radix.ids import Numbers
from radixroute.radix.jit import helper, rare_helper
from radixroute.replay.fleet import layout as at


@helper
def note_end(ends: Numbers, which: int, ns: int) -> None:
    """Something is to be decided at this worker then; `NEVER`: nothing runs there. O(log)."""
    place = len(ends) // 2 + which
    ends[place] = ns
    while place > 1:
        place //= 2
        least = min(ends[2 * place], ends[2 * place + 1])
        if ends[place] == least:
            break
        ends[place] = least


@helper
def first_at(ends: Numbers, ns: int) -> int:
    """The first worker whose end is `ns`, the earliest of all; -1: none. O(log)."""
    if ends[1] != ns:
        return -1
    place, half = np.int64(1), len(ends) // 2
    while place < half:
        place *= 2
        if ends[place] != ns:
            place += 1
    return place - half  # type: ignore[return-value]


@helper
def note_idle(idle: Numbers, which: int) -> None:
    """This worker may begin a step: it ended one, or somebody came. O(1)."""
    mark = at.IDLE_LIST + (len(idle) - at.IDLE_LIST) // 2 + which
    if idle[mark] == 0:
        idle[mark] = 1
        idle[at.IDLE_LIST + idle[at.N_IDLE]] = which
        idle[at.N_IDLE] += 1


@rare_helper
def take_idle(idle: Numbers, place: int) -> int:
    """The worker at this place of the list, which it will leave."""
    which = idle[at.IDLE_LIST + place]
    idle[at.IDLE_LIST + (len(idle) - at.IDLE_LIST) // 2 + which] = 0
    return which  # type: ignore[no-any-return]


@rare_helper
def keep_idle(idle: Numbers, first: int) -> None:
    """Those before the place `first` have left the list."""
    left = idle[at.N_IDLE] - first
    for i in range(left):
        idle[at.IDLE_LIST + i] = idle[at.IDLE_LIST + first + i]
    idle[at.N_IDLE] = left


@rare_helper
def sort_idle(idle: Numbers) -> None:
    """By number: workers begin in that order. Insertion sort: few, and mostly in order."""
    for i in range(at.IDLE_LIST + 1, at.IDLE_LIST + idle[at.N_IDLE]):
        which, place = idle[i], i
        while place > at.IDLE_LIST and idle[place - 1] > which:
            idle[place] = idle[place - 1]
            place -= 1
        idle[place] = which
