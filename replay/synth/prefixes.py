"""Workloads of single requests that begin alike: system prompts, examples, documents, crowds.

Each shape is a record of parameters with `make`.
"""

from dataclasses import dataclass

import numpy as np

from radixroute.replay.errors import InvalidShape
from radixroute.replay.synth.draws import Draws, Shape, zipf
from radixroute.replay.synth.prompts import Piece, Pieces
from radixroute.replay.traces.draft import NS_PER_S


@dataclass(frozen=True, slots=True)
class SystemPrompts(Shape):
    """A few applications, each with one long system prompt; questions are short and never recur."""

    prompts: int = 8
    system_tokens: int = 4_000
    question_tokens: int = 200
    answer_tokens: int = 200
    popularity: float = 1.0  # Zipf's exponent over the prompts
    requests_per_s: float = 4.0

    def make(self, draws: Draws) -> Pieces:
        pieces = Pieces()
        systems = [pieces.text(draws.tokens(self.system_tokens)) for _ in range(self.prompts)]
        chosen = draws.rng.choice(
            self.prompts, self.requests, p=zipf(self.prompts, self.popularity)
        )
        arrivals = draws.arrivals_ns(self.requests, self.requests_per_s)
        for arrival, which in zip(arrivals.tolist(), chosen.tolist(), strict=True):
            _ask(draws, pieces, arrival, (systems[which],), self)
        return pieces


@dataclass(frozen=True, slots=True)
class FewShot(Shape):
    """Batch jobs, one group of requests each: the same worked examples before every item."""

    groups: int = 50
    instruction_tokens: int = 150  # the same in every group
    example_tokens: int = 250
    examples: int = 8
    question_tokens: int = 80
    answer_tokens: int = 20
    group_s: float = 60.0  # a group's requests come at random within this time
    requests_per_s: float = 8.0

    def make(self, draws: Draws) -> Pieces:
        pieces = Pieces()
        instruction = pieces.text(draws.tokens(self.instruction_tokens))
        span_ns = self.requests / self.requests_per_s * NS_PER_S
        starts = np.sort(draws.rng.random(self.groups)) * span_ns
        shots = [
            tuple(pieces.text(draws.tokens(self.example_tokens)) for _ in range(self.examples))
            for _ in range(self.groups)
        ]
        for request in range(self.requests):
            group = request % self.groups
            arrival = int(starts[group] + draws.rng.random() * self.group_s * NS_PER_S)
            _ask(draws, pieces, arrival, (instruction, *shots[group]), self)
        return pieces


@dataclass(frozen=True, slots=True)
class Rag(Shape):
    """Questions over a set of documents, the best fitting first; some documents are in demand."""

    documents: int = 1_000
    document_tokens: int = 800
    documents_per_request: int = 4
    popularity: float = 1.1  # Zipf's exponent over the documents
    system_tokens: int = 400
    question_tokens: int = 60
    answer_tokens: int = 200
    requests_per_s: float = 3.0

    def __post_init__(self) -> None:
        Shape.__post_init__(self)
        if self.documents_per_request > self.documents:
            raise InvalidShape(
                f"documents_per_request: at most the {self.documents} documents there are"
            )

    def make(self, draws: Draws) -> Pieces:
        pieces = Pieces()
        system = pieces.text(draws.tokens(self.system_tokens))
        texts = [pieces.text(draws.tokens(self.document_tokens)) for _ in range(self.documents)]
        chances = zipf(self.documents, self.popularity)
        for arrival in draws.arrivals_ns(self.requests, self.requests_per_s).tolist():
            found = draws.rng.choice(
                self.documents, self.documents_per_request, replace=False, p=chances
            )
            _ask(draws, pieces, arrival, (system, *(texts[one] for one in found)), self)
        return pieces


@dataclass(frozen=True, slots=True)
class Bursts(Shape):
    """Steady single questions, and crowds that within seconds ask about one and the same text."""

    bursts: int = 20
    burst_share: float = 0.5  # requests that belong to a burst
    burst_s: float = 2.0  # a burst's requests come at random within this time
    text_tokens: int = 3_000  # of a burst, shared
    context_tokens: int = 1_500  # of a steady request, its own
    question_tokens: int = 100
    answer_tokens: int = 150
    requests_per_s: float = 4.0  # over the whole trace

    def make(self, draws: Draws) -> Pieces:
        pieces = Pieces()
        span_ns = self.requests / self.requests_per_s * NS_PER_S
        starts = draws.rng.random(self.bursts) * span_ns
        texts = [pieces.text(draws.tokens(self.text_tokens)) for _ in range(self.bursts)]
        for _ in range(self.requests):
            if draws.happens(self.burst_share):
                burst = draws.count(0, self.bursts - 1)
                arrival = starts[burst] + draws.rng.random() * self.burst_s * NS_PER_S
                context = texts[burst]
            else:
                arrival = draws.rng.random() * span_ns
                context = pieces.text(draws.tokens(self.context_tokens))
            _ask(draws, pieces, int(arrival), (context,), self)
        return pieces


@dataclass(frozen=True, slots=True)
class HotPrefix(Shape):
    """Many tenants with prefixes of their own; then one prefix is suddenly in most requests."""

    tenants: int = 40
    system_tokens: int = 1_500
    question_tokens: int = 150
    answer_tokens: int = 150
    hot_from_share: float = 0.5  # of the requests that come before it begins
    hot_share: float = 0.8  # of the requests after that
    requests_per_s: float = 4.0

    def make(self, draws: Draws) -> Pieces:
        pieces = Pieces()
        systems = [pieces.text(draws.tokens(self.system_tokens)) for _ in range(self.tenants)]
        hot = pieces.text(self.system_tokens)
        begins = round(self.hot_from_share * self.requests)
        arrivals = draws.arrivals_ns(self.requests, self.requests_per_s)
        for number, arrival in enumerate(arrivals.tolist()):
            is_hot = number >= begins and draws.happens(self.hot_share)
            system = hot if is_hot else systems[draws.count(0, self.tenants - 1)]
            _ask(draws, pieces, arrival, (system,), self)
        return pieces


_Asking = SystemPrompts | FewShot | Rag | Bursts | HotPrefix


def _ask(
    draws: Draws, pieces: Pieces, arrival_ns: int, context: tuple[Piece, ...], shape: _Asking
) -> None:
    """One request: what it shares, then a question of its own."""
    question = pieces.text(draws.tokens(shape.question_tokens))
    pieces.add(arrival_ns, (*context, question), draws.tokens(shape.answer_tokens))
