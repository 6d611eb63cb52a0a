"""Logs of chats as trace formats: when each request comes, and which blocks its prompt has.

A request for each answer; the prompt is all that stands above it. Where a log says when answers
were written, requests come by that: the first at its answer's time (or its row's), later ones after
the answer before ended, by the difference of the two times. ShareGPT's logs have no times: they are
drawn (`ChatTimes`), and that is told.
"""

from functools import partial
from itertools import pairwise

import numpy as np

from radixroute.radix.keys.block_keys import block_keys
from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.captured import BlockNumbers
from radixroute.replay.traces.chats.encoder import AnsweredTurn
from radixroute.replay.traces.chats.logged import LoggedChat, logged_chat
from radixroute.replay.traces.draft import NS_PER_S, TraceDraft
from radixroute.replay.traces.json_formats import fields_of
from radixroute.replay.traces.reader import TraceFormat
from radixroute.replay.traces.reading.wanted import Wanted
from radixroute.request.errors import InvalidRequest

_BLOCK = 16  # as engines have it: text is cut where they cut it
_SEED = np.uint64(0x7261_6469_7872_6F75)  # of keys that nobody else sees
_LENGTHS = {"input_length", "input_tokens", "output_length", "output_tokens"}


class ChatReader:
    """Conversations, one a row."""

    name = None

    def __init__(self, called: str, _first_line: bytes, wanted: Wanted) -> None:
        if wanted.encoder is None:
            raise BadTrace(
                f"it is a log of chats ({called}): name the folder of the tokenizer that counts its"
                " tokens (--tokenizer DIR)"
            )
        self.draft = TraceDraft(wanted.block_size or _BLOCK)
        self._encoder, self._times = wanted.encoder, wanted.chat_times
        self._rng = np.random.Generator(np.random.PCG64(wanted.chat_times.seed))
        self._drawn_ns = 0
        self._has_times: bool | None = None  # of the first conversation
        self._numbers = BlockNumbers(self.draft.block_size)
        if self._encoder.remark:
            self.draft.remarks.append(self._encoder.remark)

    def take(self, line: bytes) -> None:
        chat = logged_chat(line)
        try:
            turns = self._encoder.turns(chat.messages)
        except InvalidRequest as refused:
            raise BadTrace(str(refused)) from refused
        if not turns:
            self.draft.repairs["conversations without an answer to a message were left out"] += 1
            return
        if any(not len(turn.prompt) for turn in turns):
            raise BadTrace("a prompt has no tokens")
        times = self._arrivals(chat, turns)
        unanswered = len(chat.messages) - 1 - turns[-1].answer
        if unanswered:
            self.draft.repairs["messages without an answer were left out"] += unanswered
        before = None
        for turn, arrival_ns in zip(turns, times, strict=True):
            keys = block_keys(turn.prompt, self.draft.block_size, _SEED)
            before = self.draft.add(
                arrival_ns,
                (len(turn.prompt), turn.output_tokens),
                self._numbers.of(keys, len(turn.prompt)),
                after=before,
            )

    def _arrivals(self, chat: LoggedChat, turns: list[AnsweredTurn]) -> list[int]:
        """Of the first request when it comes, of each other how long after the answer before."""
        written = [_written_ns(chat, turn) for turn in turns]
        first_ns = written[0] if written[0] is not None else chat.row_ns
        if self._has_times is None:
            self._has_times = first_ns is not None
            self._tell_times()
        if self._has_times != (first_ns is not None):
            raise BadTrace("some conversations have a time and others have none")
        found = [self._next_ns() if first_ns is None else first_ns]
        for before, now in pairwise(written):
            if before is None or now is None:
                self.draft.repairs[
                    f"later messages without a time come {self._times.think_s:g} s after the answer"
                    " before (--think-time)"
                ] += 1
                found.append(round(self._times.think_s * NS_PER_S))
            else:
                found.append(max(0, now - before))
        return found

    def _next_ns(self) -> int:
        gap_s = self._rng.exponential(1 / self._times.conversations_per_s)
        self._drawn_ns += round(gap_s * NS_PER_S)
        return self._drawn_ns

    def _tell_times(self) -> None:
        if not self._has_times:
            self.draft.remarks.append(
                "the log has no times: conversations come at random,"
                f" {self._times.conversations_per_s:g} a second (--chat-rate)"
            )


def _written_ns(chat: LoggedChat, turn: AnsweredTurn) -> int | None:
    """When the answer was written, or else what it answers."""
    own = chat.at_ns[turn.answer]
    return chat.at_ns[turn.answer - 1] if own is None else own


def _claims(names: set[str], line: bytes) -> bool:
    fields = fields_of(line)
    return any(isinstance(fields.get(name), list) for name in names) and not (
        _LENGTHS & fields.keys()  # a row of a trace that also holds what was said
    )


def _format(name: str, *names: str) -> TraceFormat:
    claims, start = partial(_claims, set(names)), partial(ChatReader, name)
    return TraceFormat(name, False, claims, start, is_slow=True)


SHAREGPT = _format("sharegpt", "conversations", "items")
WILDCHAT = _format("wildchat", "conversation")
