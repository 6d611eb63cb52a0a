"""Rows of a session: those that repeat its whole prompt, and those that only add to it. Pure.

Both are written under the same names: Dynamo's rows are whole prompts, AIPerf's are what a turn
adds. Read as whole prompts, rows that add share nothing with what they go on from, and all reuse
is gone; so which it is is told by the block ids, and said.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.draft import MAX_TOKENS
from radixroute.replay.traces.trace import Trace

AUTO, WHOLE, INCREMENT = "auto", "whole", "increment"
FORMS = (AUTO, WHOLE, INCREMENT)
# Lengths alone are weak evidence: rows that only add are about as often shorter than the row before
# them as longer, whole prompts hardly ever.
_SHORTER = 0.1


@dataclass(frozen=True, slots=True)
class SessionRow:
    """What a row says of its prompt."""

    number: int  # among the rows of the file, from 1
    tokens: int  # of the prompt
    output_tokens: int
    blocks: Sequence[int] | None


@dataclass(slots=True)
class SessionEvidence:
    """How rows stand to the row of their session above them."""

    repeat: int = 0  # begin with all its full blocks
    partly: int = 0  # begin with some of them: a history that was cut or edited
    apart: int = 0  # share none, or are shorter where there are no ids
    unknown: int = 0  # too short, or without ids
    first_apart: int = 0  # the first row that is `partly` or `apart`

    def look(self, before: SessionRow, row: SessionRow, block_size: int) -> None:
        """Takes one row and that above it into account."""
        full = before.tokens // block_size
        if not before.blocks or not row.blocks:
            self._note("apart" if row.tokens < before.tokens else "unknown", row)
        elif not full:
            is_same = before.blocks[0] == row.blocks[0]
            is_shorter = row.tokens < before.tokens
            self._note("repeat" if is_same else "apart" if is_shorter else "unknown", row)
        else:
            common = _common(before.blocks[:full], row.blocks)
            self._note("repeat" if common == full else "partly" if common else "apart", row)

    @property
    def follow_ups(self) -> int:
        return self.repeat + self.partly + self.apart + self.unknown

    @property
    def adds_up(self) -> bool:
        """Whether rows only add to their session's prompt: no row repeats any of it."""
        decided = self.apart + self.unknown
        return not self.repeat and not self.partly and self.apart > _SHORTER * decided

    def _note(self, what: str, row: SessionRow) -> None:
        setattr(self, what, getattr(self, what) + 1)
        if what in ("partly", "apart") and not self.first_apart:
            self.first_apart = row.number


def check_form(form: str) -> None:
    if form not in FORMS:
        raise BadTrace(f"rows of sessions are not {form}: give one of {', '.join(FORMS)}")


def form_of(evidence: SessionEvidence, asked: str) -> str:
    """`WHOLE` or `INCREMENT`: as asked, else by the evidence."""
    if asked != AUTO:
        return asked
    return INCREMENT if evidence.adds_up else WHOLE


def taken_as(evidence: SessionEvidence, form: str) -> str:
    """How the rows were taken, in words; empty where there was nothing to choose."""
    n = evidence.follow_ups
    if not n:
        return ""
    if form == INCREMENT:
        return (
            f"{n:,} later rows of sessions were taken as what they add to prompt and answer before"
            " (--session-rows whole: each is a whole prompt)"
        )
    return f"{n:,} later rows of sessions were taken as whole prompts"


def doubt(evidence: SessionEvidence, form: str) -> str | None:
    """What speaks against how the rows were taken; None: nothing."""
    n, odd = evidence.follow_ups, evidence.partly + evidence.apart
    if form == WHOLE and odd:
        return (
            f"{odd:,} of {n:,} later rows of sessions (the first: row {evidence.first_apart}) do"
            " not begin with the row of their session before: each counts as a whole prompt that"
            " shares nothing more; give --session-rows increment if rows add to it"
        )
    if form == WHOLE and evidence.unknown and not evidence.repeat:
        return (
            f"{n:,} later rows of sessions do not show whether they repeat their session's prompt:"
            " each counts as a whole prompt; give --session-rows increment if rows add to it"
        )
    if form == INCREMENT and evidence.repeat:
        return (
            f"{evidence.repeat:,} of {n:,} later rows of sessions begin with the row of their"
            " session before, and yet were added to it; --session-rows whole takes them as they"
            " stand"
        )
    return None


def accumulated(trace: Trace) -> Trace:
    """Each follow-up's prompt: that before it, its answer, and then its own tokens.

    Prompts of a session begin with each other to the token; what a session adds after its first
    prompt is its own, since its answers are. A first prompt's last block, where it is not full, is
    its session's too: from there on another session goes on otherwise. Each request must be waited
    for by one other at most. O(blocks of the result).
    """
    distinct, numbers = np.unique(trace.blocks.view(np.uint64), return_inverse=True)
    fresh = len(distinct)
    has_next = np.zeros(len(trace), np.bool_)
    has_next[trace.after[trace.after >= 0]] = True
    lengths = trace.input_tokens.copy()
    prompts: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    for request, before in enumerate(trace.after.tolist()):
        if before < 0:
            own = numbers[trace.first_block[request] : trace.first_block[request + 1]]
            if has_next[request] and lengths[request] % trace.block_size:
                own = np.concatenate([own[:-1], [fresh]])
                fresh += 1
        else:
            lengths[request] += lengths[before] + trace.output_tokens[before]
            if lengths[request] > MAX_TOKENS:
                raise BadTrace(
                    f"a session's prompt would grow beyond {MAX_TOKENS:,} tokens: if its rows are"
                    " whole prompts, give --session-rows whole"
                )
            n_more = -(-int(lengths[request]) // trace.block_size) - len(prompts[before])
            own = np.concatenate([prompts[before], np.arange(fresh, fresh + n_more)])
            fresh += n_more
        prompts.append(own.astype(np.int64))
    n_blocks = np.array([len(one) for one in prompts], np.int64)
    return replace(
        trace,
        input_tokens=lengths,
        first_block=np.concatenate([[0], np.cumsum(n_blocks)]),
        blocks=np.concatenate(prompts),
    )


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return min(len(first), len(second))
