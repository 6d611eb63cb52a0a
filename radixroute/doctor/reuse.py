"""Reuse: what a request log says of caches: how much was reused, and why the rest was not.

Every prompt token of the log was told cached, or has the first of `CAUSES` that holds of it.
Reachable is what one cache without a limit would have served: leading blocks of a prompt that an
earlier request had, whose first token was out before this one was sent on. Only prompts count: what
answers leave in caches is reused on top of it. Keys count such blocks exactly; what repeats
elsewhere is counted by marks, about one in 64 tokens. Of a request without a whole answer nobody
told what it found; what it computed others may find. Pure; O(blocks of all prompts).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.keys.marks import RUN

# Ends of requests that were told what of their prompts was cached.
WHOLE: Final = ("stop", "length", "leased")

EVICTED: Final = "evicted"
SPREAD: Final = "spread"
EARLY: Final = "early"
CUT: Final = "cut"
SHIFTED: Final = "shifted"
APART: Final = "apart"
ADAPTED: Final = "adapted"
FRESH: Final = "fresh"
# Why a token was computed, with the words that follow its share.
CAUSES: Final[Mapping[str, str]] = {
    EVICTED: "had left the cache that had them",
    SPREAD: "were in caches of other workers",
    EARLY: "were still being computed for another request",
    CUT: "begin as an earlier prompt did, in a block that goes on otherwise",
    SHIFTED: "repeat what an earlier prompt had behind another beginning",
    APART: "repeat what a request of another salt or tenant had",
    ADAPTED: "repeat what a request of another adapter had",
    FRESH: "came for the first time",
}


@dataclass(frozen=True, slots=True)
class Reuse:
    """Sums over a log, in prompt tokens where nothing else is said."""

    requests: int = 0  # that had a first token
    answered: int = 0  # of them, whole: those that the sums are of
    prompt: int = 0
    reachable: int = 0
    told: int = 0  # as engines told
    predicted: int = 0
    causes: Mapping[str, float] = field(default_factory=dict)  # of those not told, by `CAUSES`
    scopes: int = 0  # salts and tenants that keep blocks apart
    requests_by_worker: tuple[tuple[str, int], ...] = ()
    blocks_by_worker: tuple[tuple[str, int], ...] = ()  # different ones that came to be there
    # Requests that were sent to a worker with two prompts or more without a first token, while
    # another worker had none.
    piled: int = 0

    def lost(self, cause: str) -> float:
        return self.causes.get(cause, 0.0)

    def share(self, tokens: float) -> float:
        """Of all prompt tokens."""
        return tokens / self.prompt if self.prompt else 0.0

    @property
    def said(self) -> str:
        """In one line, the main cause first."""
        line = (
            f"of {self.prompt:,} prompt tokens {self.share(self.reachable):.0%} could be reused"
            f" and {self.share(self.told):.0%} were"
        )
        ordered = sorted(self.causes.items(), key=lambda one: -one[1])
        parts = [
            f"{share:.0%} {CAUSES[cause]}"
            for cause, tokens in ordered
            if (share := self.share(tokens)) >= _WORTH_SAYING
        ]
        return f"{line}; {', '.join(parts)}" if parts else line


_WORTH_SAYING: Final = 0.01


def reuse_of(log: Sequence[pb.EndedRequest], workers: Iterable[str] = ()) -> Reuse:
    """Of those that were sent to a worker and had a first token. `workers`: who could have been
    sent some, whether the log knows them or not."""
    served = sorted((one for one in log if _is_served(one)), key=lambda one: one.dispatched_ns)
    walk = _Walk()
    for one in served:
        walk.take(one)
    return Reuse(
        requests=len(served),
        answered=walk.answered,
        prompt=walk.prompt,
        reachable=walk.reachable,
        told=walk.told,
        predicted=walk.predicted,
        causes={cause: n for cause, n in walk.causes.items() if n > 0},
        scopes=len({one.apart for one in served if one.apart}),
        requests_by_worker=_counted(served),
        blocks_by_worker=_blocks(served, walk.first_ns_at),
        piled=_piled(served, workers),
    )


class _Walk:
    """The requests of a log, one after another as they were sent on, and what each found."""

    def __init__(self) -> None:
        self.answered = self.prompt = self.reachable = self.told = self.predicted = 0
        self.causes = dict.fromkeys(CAUSES, 0.0)
        self.first_ns: dict[int, int] = {}  # by key: when somebody had computed it
        self.first_ns_at: dict[str, dict[int, int]] = {}  # the same at one worker
        # Marks by what keeps them apart, and by adapter; who has what.
        self._seen: dict[tuple[str, int], set[int]] = {}
        self._seen_under: dict[str, set[int]] = {}
        self._placed: dict[tuple[str, int], set[int]] = {}  # whole marks: with where they begin
        self._seen_at_all: set[int] = set()

    def take(self, one: pb.EndedRequest) -> None:
        keys, size, now_ns = _keys(one), one.block_size, one.dispatched_ns
        most = max(0, (one.prompt_tokens - 1) // size)
        anywhere = _leading(keys, most, self.first_ns, now_ns)
        own_first_ns = self.first_ns_at.setdefault(one.worker_id, {})
        here = _leading(keys, anywhere, own_first_ns, now_ns)
        begun = anywhere
        while begun < min(most, len(keys)) and keys[begun] in self.first_ns:
            begun += 1
        marks = np.frombuffer(one.marks, "<u8")
        if one.outcome in WHOLE:
            cached = one.cached_tokens // size
            self.answered += 1
            self.prompt += one.prompt_tokens
            self.reachable += anywhere * size
            self.told += one.cached_tokens
            self.predicted += one.predicted_tokens
            self.causes[EVICTED] += max(0, here - cached) * size
            self.causes[SPREAD] += max(0, anywhere - max(here, cached)) * size
            self.causes[EARLY] += max(0, begun - max(anywhere, cached)) * size
            self._behind(one, max(begun * size, one.cached_tokens), marks)
        _keep_first(self.first_ns, keys[anywhere:], one.first_token_ns)
        _keep_first(own_first_ns, keys[here:], one.first_token_ns)
        hashes = (marks & _HASH).tolist()
        self._seen.setdefault((one.lora, one.apart), set()).update(hashes)
        self._placed.setdefault((one.lora, one.apart), set()).update(marks.tolist())
        self._seen_under.setdefault(one.lora, set()).update(hashes)
        self._seen_at_all.update(hashes)

    def _behind(self, one: pb.EndedRequest, first: int, marks: np.ndarray) -> None:
        """What of a prompt is behind all that its keys found, from that token on: each token has
        the cause of the mark next to it."""
        # In a block that is not alike to its end, what stands where it stood before is cut; a run
        # over that end may repeat with what is before it, and says nothing.
        begins = marks >> _HALF
        is_behind = begins >= first + (one.block_size if first else 0)
        placed = self._placed.get((one.lora, one.apart), _NOTHING)
        is_within = (begins >= first) & (begins + np.uint64(RUN) <= first + one.block_size)
        is_cut = is_within & np.array([mark in placed for mark in marks.tolist()], bool)
        is_behind |= is_within
        hashes = (marks[is_behind] & _HASH).tolist()
        shares = _shares(begins[is_behind], first, max(first, one.prompt_tokens))
        room = float(one.block_size)  # of that block; a mark may speak for more
        own = self._seen.get((one.lora, one.apart), _NOTHING)
        same_adapter = self._seen_under.get(one.lora, _NOTHING)
        for mark, cut, n_tokens in zip(hashes, is_cut[is_behind].tolist(), shares, strict=True):
            if cut:
                within = min(n_tokens, room)
                room -= within
                self.causes[CUT] += within
                self.causes[FRESH] += n_tokens - within
                continue
            if mark in own:
                cause = SHIFTED
            elif mark in same_adapter:
                cause = APART
            elif mark in self._seen_at_all:
                cause = ADAPTED
            else:
                cause = FRESH
            self.causes[cause] += n_tokens
        if not hashes:
            self.causes[FRESH] += max(0, one.prompt_tokens - first)


_HALF: Final = np.uint64(32)
_HASH: Final = np.uint64(0xFFFFFFFF)
_NOTHING: Final[set[int]] = set()


def _shares(begins: np.ndarray, first: int, end: int) -> list[float]:
    """Of the tokens from `first` up to `end`, those that are nearest to each mark."""
    if not len(begins):
        return []
    middles = begins.astype(np.float64) + RUN / 2
    between = np.clip((middles[1:] + middles[:-1]) / 2, first, end)
    shares: list[float] = np.diff([first, *between, end]).tolist()
    return shares


def _is_served(one: pb.EndedRequest) -> bool:
    is_begun = one.HasField("dispatched_ns") and one.HasField("first_token_ns")
    # A prompt that only its engine has read has no keys.
    is_read = bool(one.keys) or one.prompt_tokens < one.block_size
    return bool(is_begun and is_read and one.worker_id and one.block_size)


def _keys(one: pb.EndedRequest) -> list[int]:
    keys: list[int] = np.frombuffer(one.keys, "<u8").tolist()
    return keys


def _leading(keys: Sequence[int], most: int, first_ns: dict[int, int], now_ns: int) -> int:
    """Of `keys` that somebody had by then, `most` at most."""
    n = 0
    for key in keys:
        if n >= most or first_ns.get(key, now_ns) >= now_ns:
            break
        n += 1
    return n


def _keep_first(first_ns: dict[int, int], keys: Sequence[int], at_ns: int) -> None:
    for key in keys:
        if first_ns.setdefault(key, at_ns) > at_ns:
            first_ns[key] = at_ns


def _counted(served: Sequence[pb.EndedRequest]) -> tuple[tuple[str, int], ...]:
    counts: dict[str, int] = {}
    for one in served:
        counts[one.worker_id] = counts.get(one.worker_id, 0) + 1
    return tuple(sorted(counts.items()))


def _blocks(
    served: Sequence[pb.EndedRequest], first_ns_at: Mapping[str, Mapping[int, int]]
) -> tuple[tuple[str, int], ...]:
    """Of prompts, and of answers, which are all taken for different ones."""
    counts = {worker_id: len(keys) for worker_id, keys in first_ns_at.items()}
    for one in served:
        counts[one.worker_id] = counts.get(one.worker_id, 0) + one.output_tokens // one.block_size
    return tuple(sorted(counts.items()))


def _piled(served: Sequence[pb.EndedRequest], workers: Iterable[str]) -> int:
    """`served` by dispatch. O(requests x what runs at once)."""
    begun: dict[str, list[int]] = {worker_id: [] for worker_id in workers}  # first tokens to come
    piled = 0
    for one in served:
        now_ns = one.dispatched_ns
        for worker_id, ends in begun.items():
            begun[worker_id] = [end for end in ends if end > now_ns]
        ahead = len(begun.get(one.worker_id, ()))
        piled += ahead >= 2 and any(not ends for ends in begun.values())
        begun.setdefault(one.worker_id, []).append(one.first_token_ns)
    return piled
