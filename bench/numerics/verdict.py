"""Where an answer parts from the one its prompt gets alone, and whether that is a tie.

Pure. Behind the first token that differs nothing is compared: the two texts are others from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

# Below this distance of the reference's two best logits a first difference is a tie: float32 sums
# of another order differ by about 1e-5.
TIE = 1e-3


@dataclass(frozen=True, slots=True)
class Answer:
    """Token ids and, where they were asked for, how far the best logit was above the next."""

    ids: tuple[int, ...]
    margins: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Parting:
    """The first token in which an answer differs from its reference."""

    way: str
    prompt: int  # its number in the run
    at: int  # tokens of the answer before it
    margin: float

    @property
    def is_tie(self) -> bool:
        return self.margin < TIE


@dataclass(slots=True)
class Tally:
    """What one way to run prompts came to. `tokens`: compared, the one that differs included."""

    way: str
    requests: int = 0
    tokens: int = 0
    cached_tokens: int = 0
    chunks: int = 0  # steps of prompts beside the last of each
    preemptions: int = 0
    partings: list[Parting] = field(default_factory=list)

    def compare(self, prompt: int, reference: Answer, got: Sequence[int]) -> None:
        self.requests += 1
        pairs = zip(reference.ids, got, strict=True)
        at = next((k for k, (a, b) in enumerate(pairs) if a != b), None)
        if at is None:
            self.tokens += len(reference.ids)
            return
        self.tokens += at + 1
        self.partings.append(Parting(self.way, prompt, at, reference.margins[at]))

    @property
    def ties(self) -> list[Parting]:
        return [one for one in self.partings if one.is_tie]

    @property
    def differences(self) -> list[Parting]:
        return [one for one in self.partings if not one.is_tie]


def record(tallies: Sequence[Tally]) -> dict[str, object]:
    """The part of the JSON document that says what parted."""
    partings = [one for tally in tallies for one in tally.partings]
    return {
        "tokens": sum(tally.tokens for tally in tallies),
        "ties": sum(one.is_tie for one in partings),
        "differences": sum(not one.is_tie for one in partings),
        "ways": [
            {
                "way": tally.way,
                "requests": tally.requests,
                "tokens": tally.tokens,
                "ties": len(tally.ties),
                "differences": len(tally.differences),
                "cached_tokens": tally.cached_tokens,
                "chunks": tally.chunks,
                "preemptions": tally.preemptions,
            }
            for tally in tallies
        ],
        "partings": [
            {"way": one.way, "prompt": one.prompt, "at": one.at, "margin": one.margin}
            for one in partings
        ],
    }
