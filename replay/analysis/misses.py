"""Misses: the reason why each prompt token that no cache served was not served. Pure.

Owns the classes (`DEFINITIONS`). Each token of a prompt is cached or in exactly one class, decided
in this order; nothing is left over. A prompt of L tokens can reuse R = floor((L - 1) / block size)
blocks. Behind them lie the *partial block* (L mod block size tokens) or, where that is none, the
block of the *last token*: no cache could serve these. For each block before them that was not found
at admission, as things stood when the request was decided on, where "held" means by one worker,
with all blocks before it:

    held by the chosen worker                       evicted between decision and admission
    not to come there either, but predicted         stale index
    held by another worker                          index forgot, where `Beliefs` says so
                                                    stale index, where the router knew no such
                                                    held elsewhere but not chosen
    held or to come at some one worker              being computed elsewhere
    stored once, by anyone                          evicted everywhere
    none of these                                   scope mismatch, where `Beliefs` says so
                                                    never seen

*To come*: in the prompt of a request sent to that worker before, which had no first token yet; of
requests decided at one time the earlier in the trace is before. It may be the chosen worker: then
the block was not there in time. Cache changes at the time of a decision come after it, as in
`simulate`. *Preemption* stands apart: tokens of prompt and output computed again, which the cached
tokens, found at the first admission, do not know of. So for each admitted request

    cached + all classes = prompt + recomputed tokens.

What the router believed of workers it did not choose is in no `RunResult`: without `Beliefs` a held
block it did not know of counts as not chosen.
"""

from dataclasses import dataclass

import numpy as np

from radixroute.radix.ids import Numbers
from radixroute.replay.analysis import misses_layout as at
from radixroute.replay.errors import InvalidShape
from radixroute.replay.results import CacheEvents, RunResult
from radixroute.replay.traces.trace import Prefixes

DEFINITIONS = {
    "never_seen": "No worker had ever stored it.",
    "being_computed": "Nobody held it yet, but a request sent before was about to compute it.",
    "evicted_everywhere": "It was stored once, and no worker held it any more.",
    "not_chosen": "Another worker held it.",
    "evicted_before_admission": "The chosen worker held it at the decision and evicted it before"
    " the request was admitted.",
    "stale_index": "The router believed the chosen worker had it, and it had not; or another"
    " worker held it and the router had not heard.",
    "index_forgot": "Another worker held it; the index had known and dropped it for its budget.",
    "partial_block": "Behind the last full block: only full blocks are cached.",
    "last_token": "In the last block, which is full: at least the last token is computed.",
    "preemption": "Computed again after the request was preempted; prompt and output tokens, beside"
    " the prompt's own.",
    "scope_mismatch": "Held, but under another scope.",
}
CLASSES = tuple(DEFINITIONS)  # column `misses_layout` has under this name
_ALL = np.iinfo(np.int64).max
_BITS = 64  # workers of a word


@dataclass(frozen=True, slots=True, eq=False)
class Beliefs:
    """What a router can add to its record: leading prompt tokens of each request, at its decision.

    Shape (requests,). None: there was no such thing.
    """

    best_tokens: Numbers | None = None  # the most it knew any one worker to hold; None: all held
    forgotten_tokens: Numbers | None = None  # that it had known a worker to hold, and forgot
    other_scope_tokens: Numbers | None = None  # that were held under another scope


@dataclass(frozen=True, slots=True, eq=False)
class Misses:
    """Tokens of each request in each class; shape (requests, classes), columns as in `CLASSES`."""

    tokens: np.ndarray[tuple[int, int], np.dtype[np.int64]]

    @property
    def totals(self) -> dict[str, int]:
        return dict(zip(CLASSES, self.tokens.sum(axis=0).tolist(), strict=True))

    def of(self, name: str) -> Numbers:
        """One class, for each request."""
        return self.tokens[:, CLASSES.index(name)]


def attribute_misses(run: RunResult, numbered: Prefixes, beliefs: Beliefs | None = None) -> Misses:
    """O(blocks (1 + workers / 64) + cache changes). Requests never admitted lose nothing."""
    from radixroute.replay.analysis.misses_kernels import classify, look  # numba takes 0.5 s

    events = run.events
    if events is None:
        raise InvalidShape(
            "this run kept no cache events, which miss attribution needs: run it with them"
        )
    block = run.block_size
    reusable = np.maximum(0, run.trace.input_tokens - 1) // block
    cached = np.where(run.admitted_ns >= 0, run.cached_tokens, -1)
    missed = _tails(run, reusable * block, cached)
    id_by_node, n_ids = _known_ids(run, numbered, events)
    event_node = np.full(len(events.node), -1, np.int32)
    is_prompt = events.node < numbered.n_nodes
    event_node[is_prompt] = id_by_node[events.node[is_prompt]]
    is_in = event_node >= 0
    end_ns = np.where(run.first_ns < 0, _ALL, run.first_ns)
    decided = np.flatnonzero(run.decided_ns >= 0)
    computing = decided[end_ns[decided] > run.decided_ns[decided]]
    words = (run.workers + _BITS - 1) // _BITS
    reached = np.zeros((len(run.trace), at.REACH_LEN), np.int64)
    look(
        numbered.first,
        id_by_node[numbered.nodes],
        reusable,
        run.worker,
        decided[np.argsort(run.decided_ns[decided], kind="stable")],
        run.decided_ns,
        computing[np.argsort(end_ns[computing], kind="stable")],
        end_ns,
        events.ns[is_in],
        events.worker[is_in],
        event_node[is_in],
        events.is_stored[is_in],
        np.zeros((n_ids, words), np.uint64),
        np.zeros((n_ids, words), np.uint64),
        np.zeros((n_ids, run.workers), np.int32),
        np.zeros(n_ids, np.bool_),
        reached,
    )
    beliefs_of = _leading_blocks(run, beliefs or Beliefs())
    classify(reusable, cached, reached, beliefs_of, block, missed)
    return Misses(missed)


def _tails(run: RunResult, reusable_tokens: Numbers, cached: Numbers) -> Numbers:
    """A table with the classes that need no history filled in."""
    prompt = run.trace.input_tokens
    missed = np.zeros((len(prompt), at.MISSES_LEN), np.int64)
    tail = np.where(cached >= 0, prompt - np.maximum(reusable_tokens, cached), 0)
    is_full = prompt % run.block_size == 0
    missed[:, at.LAST_TOKEN] = np.where(is_full, tail, 0)
    missed[:, at.PARTIAL_BLOCK] = np.where(is_full, 0, tail)
    missed[:, at.PREEMPTION] = np.where(cached >= 0, run.recomputed_tokens, 0)
    return missed


def _known_ids(
    run: RunResult, numbered: Prefixes, events: CacheEvents
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int32]], int]:
    """A small number for each node that could be known at a decision, -1 for others; how many.

    Most blocks of a trace are in one prompt alone, and stored for it afterwards if the caches were
    empty at first. What is kept for each block and worker leaves these out.
    """
    is_known = np.bincount(numbered.nodes, minlength=numbered.n_nodes) > 1
    decided_ns = np.zeros(numbered.n_nodes, np.int64)  # right where only one prompt has the node
    decided_ns[numbered.nodes] = np.repeat(run.decided_ns, np.diff(numbered.first))
    stored = events.is_stored & (events.node < numbered.n_nodes)
    node = events.node[stored]
    is_known[node[events.ns[stored] < decided_ns[node]]] = True
    ids = np.where(is_known, np.cumsum(is_known) - 1, -1).astype(np.int32)
    return ids, int(is_known.sum())


def _leading_blocks(run: RunResult, beliefs: Beliefs) -> Numbers:
    """Columns as `misses_layout` says, one row a request."""
    table = np.zeros((len(run.trace), at.BELIEF_LEN), np.int64)
    table[:, at.PREDICTED] = run.predicted_tokens
    table[:, at.BEST] = _ALL if beliefs.best_tokens is None else beliefs.best_tokens
    if beliefs.forgotten_tokens is not None:
        table[:, at.FORGOTTEN] = beliefs.forgotten_tokens
    if beliefs.other_scope_tokens is not None:
        table[:, at.OTHER_SCOPE] = beliefs.other_scope_tokens
    return table // run.block_size
