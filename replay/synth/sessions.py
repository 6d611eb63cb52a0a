"""Workloads whose requests follow each other: people who chat, agents that try branches.

Each shape is a record of parameters with `make`. Prompts grow: a turn repeats everything before it,
answers included, and waits for the answer before it.
"""

from dataclasses import dataclass

from radixroute.replay.errors import InvalidShape
from radixroute.replay.synth.draws import Draws, Shape
from radixroute.replay.synth.prompts import Piece, Pieces


@dataclass(frozen=True, slots=True)
class Chats(Shape):
    """People in multi-turn chats with a few assistants: context grows, pauses are human."""

    assistants: int = 4  # each with a system prompt of its own
    system_tokens: int = 800
    question_tokens: int = 120
    answer_tokens: int = 250
    turns: int = 6  # on average; from 1 to twice that less 1
    chats_per_s: float = 0.5  # new chats
    think_s: float = 15.0  # median time between an answer and the next question

    def make(self, draws: Draws) -> Pieces:
        pieces = Pieces()
        systems = [pieces.text(draws.tokens(self.system_tokens)) for _ in range(self.assistants)]
        for start in draws.arrivals_ns(self.requests, self.chats_per_s).tolist():
            if len(pieces) == self.requests:
                break
            turns = min(draws.count(1, 2 * self.turns - 1), self.requests - len(pieces))
            self._chat(draws, pieces, systems[draws.count(0, self.assistants - 1)], (start, turns))
        return pieces

    def _chat(
        self, draws: Draws, pieces: Pieces, system: Piece, start_and_turns: tuple[int, int]
    ) -> None:
        wait, turns = start_and_turns
        prompt: tuple[Piece, ...] = (system,)
        before = None
        for _ in range(turns):
            prompt = (*prompt, pieces.text(draws.tokens(self.question_tokens)))
            answer = pieces.text(draws.tokens(self.answer_tokens))
            before = pieces.add(wait, prompt, answer.tokens, after=before)
            prompt = (*prompt, answer)
            wait = draws.wait_ns(self.think_s)


@dataclass(frozen=True, slots=True)
class AgentTrees(Shape):
    """Agents at tasks: each step adds a tool's result, and now and then a step tries branches."""

    roles: int = 3  # kinds of agent; instructions and tool schemas are each role's own
    instruction_tokens: int = 3_000
    task_tokens: int = 300
    step_tokens: int = 150  # what the model writes in a step
    result_tokens: int = 600  # what a tool returns
    depth: int = 6  # steps from the root to each leaf of a task's tree
    branch_share: float = 0.2  # steps after which the work goes on in several branches
    branches: int = 3
    tasks_per_s: float = 0.15
    tool_s: float = 1.0  # median time a tool takes

    def __post_init__(self) -> None:
        Shape.__post_init__(self)
        if self.branches < 2:
            raise InvalidShape(f"branches: 2 or more, not {self.branches}")

    def make(self, draws: Draws) -> Pieces:
        pieces = Pieces()
        roles = [pieces.text(draws.tokens(self.instruction_tokens)) for _ in range(self.roles)]
        for start in draws.arrivals_ns(self.requests, self.tasks_per_s).tolist():
            if len(pieces) == self.requests:
                break
            task = pieces.text(draws.tokens(self.task_tokens))
            self._task(draws, pieces, (roles[draws.count(0, self.roles - 1)], task), start)
        return pieces

    def _task(self, draws: Draws, pieces: Pieces, root: tuple[Piece, ...], start_ns: int) -> None:
        """A tree of steps, level by level, until its depth or the workload's size is reached."""
        level: list[tuple[tuple[Piece, ...], int | None]] = [(root, None)]
        for _ in range(self.depth):
            below: list[tuple[tuple[Piece, ...], int | None]] = []
            for prompt, before in level:
                if len(pieces) == self.requests:
                    return
                wait = start_ns if before is None else draws.wait_ns(self.tool_s)
                step = pieces.text(draws.tokens(self.step_tokens))
                number = pieces.add(wait, prompt, step.tokens, after=before)
                # Branches share all up to here; each takes a step of its own.
                n = self.branches if draws.happens(self.branch_share) else 1
                for _ in range(n):
                    result = pieces.text(draws.tokens(self.result_tokens))
                    below.append(((*prompt, step, result), number))
            level = below
