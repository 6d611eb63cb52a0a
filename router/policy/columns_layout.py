"""Columns layout: where a decision's numbers about workers stand. Constants only.

A table has shape (N_ROWS, workers). The rows up to ROOM are taken from the parts that own
them; `forecast_kernels.prepare` works out the rest.
"""

from typing import Final

IN_FLIGHT: Final = 0  # requests
QUEUED: Final = 1  # uncached prompt tokens dispatched and without a first token
DECODING: Final = 2  # requests
PROMPTS: Final = 3  # requests of ours without a first token
SINCE_NS: Final = 4  # when the first of them could begin
PREFILL_BASE_MS: Final = 5  # of a step with prompt tokens
MS_PER_PREFILL: Final = 6  # of each token
STEP_BASE_MS: Final = 7  # of a step with decoding requests
MS_PER_DECODE: Final = 8  # of each of them
DRIFT: Final = 9  # prompts really take so many times what the above makes of them
LAST_STEP_NS: Final = 10  # end of the last step heard of
RECENT_PREFILL: Final = 11  # prompt tokens given there lately: what its cache must hold
MAX_BATCHED: Final = 12  # tokens a step computes
SEATS: Final = 13  # requests it runs at once; infinite: not known
ROOM: Final = 14  # requests it takes, those in its own queue too; infinite: not known
BACKLOG_MS: Final = 15  # until what is queued there is computed
STEP_LEFT_MS: Final = 16  # until the step that decodes there ends
N_ROWS: Final = 17
