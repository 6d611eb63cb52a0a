"""Layout of the simulated fleet: the columns of its arrays. Constants only.

    workers   (workers, WORKER_LEN)          one row each
    requests  (requests, REQUEST_LEN)        one row each, in trace order
    slots     (workers, blocks, SLOT_LEN)    the KV blocks; a chain of them is a request's prompt
    runs      (workers, blocks, RUN_LEN)     nodes of the tree of cached blocks
    buckets   (workers, a power of two)      node -> slot, linear probing; 0: empty
    running   (workers, max_num_seqs)        requests in order of admission
    ends      (twice a power of two,)        tournament: row i is the least of rows 2i and 2i + 1
    idle      (1 + 2 workers,)               how many, which, and for each worker whether it is one

Times are nanoseconds since the start of the trace; -1: not yet.
"""

from typing import Final

# A worker.
STEP_END: Final = 0  # of the step that runs; -1: none
STEP_START: Final = 1
STEP_PREFILL: Final = 2  # tokens
STEP_DECODES: Final = 3  # requests
STEP_CONTEXT: Final = 4  # tokens that the decoding requests know
FAST_FORWARD_STEPS: Final = 5  # this step and those that follow alike, with nothing to decide
FAST_FORWARD_END: Final = 6  # of the last of them
FREE_HEAD: Final = 7  # slots without content; -1: none
N_FREE: Final = 8
N_COLD: Final = 9  # cached blocks that nobody uses
N_RUNS: Final = 10  # rows of `runs` that were ever used
FREE_RUN: Final = 11  # rows used no longer, linked by ABOVE; -1: none
N_BORN: Final = 12  # runs
N_QUEUED: Final = 13  # runs that may be evicted next, but for those of sessions that are over
WAIT_HEAD: Final = 14  # requests; -1: none
WAIT_TAIL: Final = 15
N_WAITING: Final = 16
N_RUNNING: Final = 17
DUPLICATE_HEAD: Final = 18  # slots that held what another held already; free when the step ends
N_DECODE_STEPS: Final = 19  # since the last report
DECODE_NS: Final = 20
DECODED: Final = 21  # requests over these steps
N_PREEMPTED: Final = 22
N_EVICTED: Final = 23
BUSY_NS: Final = 24
N_STORED: Final = 25  # blocks, ever: the clock of policies that count uses
USE_STEP: Final = 26  # of `radix.tree.eviction.HeadStart`
USE_TOP: Final = 27  # 0: least recently used
USE_INTERVALS: Final = 28
USE_FAR: Final = 29
OVER_AGE: Final = 30  # of `radix.tree.eviction.EvictionQueue`
N_OVER: Final = 31  # of those that may be evicted next, runs of sessions that are over; apart
WORKER_LEN: Final = 32

# A request.
PROMPT: Final = 0  # tokens
OUTPUT: Final = 1  # tokens
FIRST_NODE: Final = 2  # of its full prompt blocks, in `nodes`
N_NODES: Final = 3
WORKER: Final = 4
STATE: Final = 5
NEXT: Final = 6  # in the queue it stands in; -1: last
COMPUTED: Final = 7  # tokens
GENERATED: Final = 8  # tokens
LEAF: Final = 9  # slot of its last full block; -1: none
N_CHAINED: Final = 10  # full blocks held
PARTIAL: Final = 11  # slot of the block it fills; -1: none
STEP_TOKENS: Final = 12  # in the step that runs
CACHED: Final = 13  # prompt tokens found at first admission; -1: not admitted yet
RECOMPUTED: Final = 14  # tokens computed again after a preemption
ARRIVED_NS: Final = 15  # at its worker
ADMITTED_NS: Final = 16
FIRST_NS: Final = 17  # first token
FINISH_NS: Final = 18
LOST: Final = 19  # tokens computed before the last preemption
FIRST_OUTPUT: Final = 20  # node of its first full block after those of the prompt
IS_FOLLOWED: Final = 21  # 1: somebody comes only after it has ended
LAST_OF: Final = 22  # it is the last of a session with so many requests; 0: nobody says so
REQUEST_LEN: Final = 23

UNSENT: Final = 0
WAITING: Final = 1
RUNNING: Final = 2
DONE: Final = 3

# A slot.
NODE: Final = 0
PARENT: Final = 1  # slot of the block before; -1: none
RUN: Final = 2
AFTER: Final = 3  # in the free list
SLOT_LEN: Final = 4

# A run: blocks in a row that nothing parts; a node of the tree of `radix.tree.radix_tree`.
BORN: Final = 0
TOUCHED: Final = 1  # ns; set when its last user leaves
LOCKS: Final = 2  # requests that run on it
CHILDREN: Final = 3  # runs below it
ABOVE: Final = 4  # the run before it; -1: none
END: Final = 5  # blocks from the start of the prompt to its end
TAIL: Final = 6  # slot of its last block
PLACE: Final = 7  # in the queue; -1: not in it
QUEUE: Final = 8  # not of this run: the queue's heap, one entry in each row
USES: Final = 9  # requests that ran on it and left
USED_AT: Final = 10  # blocks stored when the last of them left
INTERVAL: Final = 11  # of `radix.tree.eviction.LeafFacts`
RANK: Final = 12  # while in the queue: the smallest goes first
IS_OVER: Final = 13  # 1: only a session that is over used it
OVER_QUEUE: Final = 14  # not of this run: as QUEUE, of those runs
RUN_LEN: Final = 15

# Limits.
MAX_BATCHED: Final = 0  # tokens a step computes
MAX_SEQS: Final = 1
BLOCK: Final = 2  # tokens
WATERMARK: Final = 3  # blocks kept free when others run
LIMITS_LEN: Final = 4

# Timing, for each worker: a step takes EVERY and what is in it. Prefill ms = (A2 t + A1) t + A0 +
# A_PAIR pairs + A_EACH prompts for t > 0 prompt tokens; decode ms = max(D_MIN, (D2 p + D1) p + D0 +
# D_EACH n), p: context tokens / D_TOTAL, n: requests, n > 0.
A2: Final = 0
A1: Final = 1
A0: Final = 2
D2: Final = 3
D1: Final = 4
D0: Final = 5
D_EACH: Final = 6
D_MIN: Final = 7
D_TOTAL: Final = 8
SLOWNESS: Final = 9  # times everything
EVERY: Final = 10
A_PAIR: Final = 11
A_EACH: Final = 12
TIMING_LEN: Final = 13

# Cursors of what the kernels write.
N_REPORTS: Final = 0
N_ITEMS: Final = 1
N_WORDS: Final = 2
N_EVENTS: Final = 3
KEEPS_EVENTS: Final = 4  # 1: cache events are wanted
CURSORS_LEN: Final = 5

# A report: one step that computed prompt tokens or produced a first or last token.
R_END: Final = 0
R_WORKER: Final = 1
R_STEP_NS: Final = 2
R_PREFILL: Final = 3
R_DECODES: Final = 4
R_FIRST_ITEM: Final = 5
R_N_ITEMS: Final = 6
R_DECODE_STEPS: Final = 7  # that only decoded, since the report before
R_DECODE_NS: Final = 8
R_DECODED: Final = 9
REPORT_LEN: Final = 10

# An item: (request, kind). A request of one output token has both.
FIRST_TOKEN: Final = 1
LAST_TOKEN: Final = 2
ITEM_LEN: Final = 2

# Ends of fast forwards, a leaf for each worker in the second half.
NEVER: Final = 1 << 62

# Workers that may begin a step.
N_IDLE: Final = 0
IDLE_LIST: Final = 1

# What the end of a step tells, and where `advance` stops: at what tells as much or more.
NOTHING: Final = 0
REPORT: Final = 1
FOLLOWED: Final = 2  # a request has ended after which another one comes
NO_STOP: Final = 3

# A cache event row: (ns, worker, first word, end word).
EVENT_LEN: Final = 4
