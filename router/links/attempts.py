"""Attempts: those that run in one worker session, by the numbers of their dispatches.

Owns the numbers from a submit to the delta that ends it, so that workers need not repeat ids with
each token. Decodes the columns that use them.
"""

from itertools import accumulate, pairwise
from typing import Final, cast

from radixroute.protos import radixroute_pb2 as pb
from radixroute.router.links.session_wire import SessionEnded
from radixroute.router.messages.actions import AttemptName
from radixroute.router.messages.inputs import TOKEN_BYTES, Delta, PackedTokens

# Whose attempt is over: what is still sent of it is nobody's, and is counted as such.
_NOBODY: Final = AttemptName("", 0)


class Attempts:
    """Of one session."""

    def __init__(self) -> None:
        self._names: dict[int, AttemptName] = {}
        self._numbers: dict[AttemptName, int] = {}

    def __len__(self) -> int:
        return len(self._names)

    def begin(self, submit: pb.SubmitRequest) -> None:
        name = AttemptName(submit.request_id, submit.attempt)
        self._names[submit.dispatch_seq] = name
        self._numbers[name] = submit.dispatch_seq

    def end(self, request_id: str, attempt: int) -> None:
        number = self._numbers.pop(AttemptName(request_id, attempt), None)
        if number is not None:
            del self._names[number]

    def deltas(self, columns: pb.TokenColumns) -> list[Delta]:
        """Its rows. Raises SessionEnded: columns of different lengths say nothing."""
        numbers, counts, packed = (
            list(columns.dispatch_seqs),
            list(columns.counts),
            columns.token_ids,
        )
        positions, texts = list(columns.positions), list(columns.texts)
        n_tokens = sum(counts) if counts else len(numbers)
        are_equal = len(numbers) == len(positions) == len(texts) == len(counts or numbers)
        if not are_equal or n_tokens * TOKEN_BYTES != len(packed):
            raise SessionEnded("the session broke: columns of tokens differ in length")
        names = [self._names.get(number, _NOBODY) for number in numbers]
        ids, attempts = [name[0] for name in names], [name[1] for name in names]
        token_ids = cast(list[PackedTokens], _split(packed, counts))
        # Columns all the way: there is one row a token.
        return list(map(Delta, ids, attempts, positions, token_ids, texts))


def _split(packed: bytes, counts: list[int]) -> list[bytes]:
    """The ids of each row. No counts: one each."""
    if not counts:
        return [packed[at : at + TOKEN_BYTES] for at in range(0, len(packed), TOKEN_BYTES)]
    ends = list(accumulate(count * TOKEN_BYTES for count in counts))
    return [packed[start:end] for start, end in pairwise([0, *ends])]
