"""Where a decision's numbers stand: rows of the table of workers, and the scalars beside it.

Constants only. A table has shape (N_ROWS, workers); the first `N_TAKEN` rows are taken from the
parts that own them, the others `plan_kernels.prepare` works out.
"""

from typing import Final

IN_FLIGHT: Final = 0  # requests
QUEUED: Final = 1  # uncached prompt tokens dispatched and without a first token
DECODING: Final = 2  # requests
PROMPTS: Final = 3  # requests of ours without a first token
SINCE_NS: Final = 4  # when the first of them could begin
PREFILL_BASE_MS: Final = 5  # of a pass with prompt tokens
MS_PER_PREFILL: Final = 6  # of each token
STEP_BASE_MS: Final = 7  # of a pass with decoding requests
MS_PER_DECODE: Final = 8  # of each of them
DRIFT: Final = 9  # prompts really take so many times what the above makes of them
LAST_STEP_NS: Final = 10  # end of the last pass heard of
FILL: Final = 11  # prompt tokens given there lately: what its cache must hold
MAX_BATCHED: Final = 12  # tokens a pass computes
N_TAKEN: Final = 13
BACKLOG_MS: Final = 13  # until what is queued there is computed
PASS_MS: Final = 14  # until the pass that decodes there ends
N_ROWS: Final = 15

# Scalars.
S_BLOCK: Final = 0  # tokens
S_OUTPUT: Final = 1  # expected, tokens
S_MIN_CAP: Final = 2  # requests in flight
S_CAP_FACTOR: Final = 3
S_NOW_NS: Final = 4
S_LEAD_MS: Final = 5  # a worker is free for the next prompt so long before it is done
S_MEAN_WAIT_MS: Final = 6
S_MEAN_PREFILL_MS: Final = 7
N_SCALARS: Final = 8
