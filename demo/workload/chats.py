"""Multi-turn chats as users have them: who says what, when, and how long they think in between.

Owns the workload: pure and seeded, the same seed gives the same chats. Never sends anything: the
model's answers come in from the driver, which asks for the messages of the next turn.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from radixroute.demo.errors import InvalidWorkload
from radixroute.demo.workload.personas import Persona, fill, load_personas
from radixroute.request.chat import ChatMessage


@dataclass(frozen=True, slots=True)
class Turn:
    """One question. `think_s` passes between the previous answer (or the start) and this turn."""

    user: str
    max_tokens: int
    think_s: float


@dataclass(frozen=True, slots=True)
class Chat:
    """One user's conversation with one assistant."""

    chat_id: str
    persona: str
    system: str
    start_s: float  # arrival, from the start of the run
    turns: tuple[Turn, ...]

    def messages(self, answers: Sequence[str]) -> tuple[ChatMessage, ...]:
        """The prompt of the turn that follows `answers`: system, whole history, new question."""
        if len(answers) >= len(self.turns):
            raise InvalidWorkload(f"{self.chat_id} has {len(self.turns)} turns only")
        messages = [ChatMessage("system", self.system)]
        for turn, answer in zip(self.turns, answers, strict=False):
            messages += [ChatMessage("user", turn.user), ChatMessage("assistant", answer)]
        return (*messages, ChatMessage("user", self.turns[len(answers)].user))


@dataclass(frozen=True, slots=True)
class ChatShape:
    """Size and sharing of a workload. The defaults are what `make demo` sends.

    Think times are log-normal, cut at both ends: people answer within seconds, a few take long.
    The medians are shorter than a real user's, so that a run fits into a minute.
    """

    chats: int = 15  # odd, so that round robin does not pair chats with workers by accident
    min_turns: int = 5
    max_turns: int = 6
    min_answer_tokens: int = 16
    max_answer_tokens: int = 32
    paste_share: float = 0.9  # turns that carry pasted context
    arrivals_s: float = 5.0  # chats arrive uniformly over this time
    # Short for people, as these chats are: so that 8 and more stay in flight on two CPU workers.
    median_think_s: float = 1.5
    think_sigma: float = 0.6
    longest_think_s: float = 6.0

    def __post_init__(self) -> None:
        if self.chats < 1 or self.chats % 2 == 0:
            raise InvalidWorkload(f"chats must be odd, not {self.chats}")
        if not 1 <= self.min_turns <= self.max_turns:
            raise InvalidWorkload(f"turns from {self.min_turns} to {self.max_turns}")
        if not 1 <= self.min_answer_tokens <= self.max_answer_tokens:
            raise InvalidWorkload(
                f"answers from {self.min_answer_tokens} to {self.max_answer_tokens} tokens"
            )
        if not 0.0 <= self.paste_share <= 1.0:
            raise InvalidWorkload(f"paste_share is a share, not {self.paste_share}")


@dataclass(frozen=True, slots=True)
class Workload:
    """Chats by arrival."""

    seed: int
    shape: ChatShape
    chats: tuple[Chat, ...]

    @property
    def n_requests(self) -> int:
        return sum(len(chat.turns) for chat in self.chats)


def make_workload(seed: int, shape: ChatShape | None = None) -> Workload:
    """The workload of `seed`. Personas take turns, then arrivals are shuffled."""
    shape = shape or ChatShape()
    rng = random.Random(f"radixroute/chats/{seed}")  # noqa: S311 - a workload is no secret
    personas = load_personas()
    starts = sorted(rng.uniform(0.0, shape.arrivals_s) for _ in range(shape.chats))
    order = [personas[number % len(personas)] for number in range(shape.chats)]
    rng.shuffle(order)
    chats = tuple(
        Chat(f"chat-{number:02d}", persona.name, persona.system, start, _turns(persona, shape, rng))
        for number, (persona, start) in enumerate(zip(order, starts, strict=True))
    )
    return Workload(seed, shape, chats)


def _turns(persona: Persona, shape: ChatShape, rng: random.Random) -> tuple[Turn, ...]:
    """No text twice within a chat; a bank that runs dry begins again with other blanks."""
    asks, pastes = list[str](), list[str]()
    turns = []
    for number in range(rng.randint(shape.min_turns, shape.max_turns)):
        bank, texts = (
            (pastes, persona.pastes) if rng.random() < shape.paste_share else (asks, persona.asks)
        )
        if not bank:
            bank.extend(rng.sample(texts, len(texts)))
        turns.append(
            Turn(
                user=fill(bank.pop(), persona, rng),
                max_tokens=rng.randint(shape.min_answer_tokens, shape.max_answer_tokens),
                think_s=_think_s(shape, rng) if number else 0.0,
            )
        )
    return tuple(turns)


def _think_s(shape: ChatShape, rng: random.Random) -> float:
    drawn = rng.lognormvariate(math.log(shape.median_think_s), shape.think_sigma)
    return round(min(drawn, shape.longest_think_s), 3)
