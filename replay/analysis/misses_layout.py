"""Why a prompt token was computed although it might have been cached: the classes, as columns.

Constants only; `misses` defines them. What a request's blocks reach, as `misses_kernels` keeps it.
"""

from typing import Final

NEVER_SEEN: Final = 0
BEING_COMPUTED: Final = 1
EVICTED_EVERYWHERE: Final = 2
NOT_CHOSEN: Final = 3
EVICTED_BEFORE_ADMISSION: Final = 4
STALE_INDEX: Final = 5
INDEX_FORGOT: Final = 6
PARTIAL_BLOCK: Final = 7
LAST_TOKEN: Final = 8
PREEMPTION: Final = 9
SCOPE_MISMATCH: Final = 10
MISSES_LEN: Final = 11

# Leading blocks of a prompt, when it was decided on, that ...
CHOSEN_HELD: Final = 0  # the chosen worker held
CHOSEN_COMING: Final = 1  # or was sent before to compute
ANY_HELD: Final = 2  # some one worker held
ANY_COMING: Final = 3  # or was sent before to compute
SEEN: Final = 4  # some worker had stored, each for itself
REACH_LEN: Final = 5

# Leading blocks of a prompt that ...
PREDICTED: Final = 0  # the router thought the chosen worker to have
BEST: Final = 1  # the router knew any one worker to hold
FORGOTTEN: Final = 2  # the index had known, and dropped for its budget
OTHER_SCOPE: Final = 3  # were held under another scope
BELIEF_LEN: Final = 4
