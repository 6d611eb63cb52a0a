"""Programs of agents: long trunks that all share, turns that wait for tools, contexts that grow.

The numbers of a published sample of agents' traffic: 63 blocks of 512 tokens that all requests
share, 20 that a group shares, 10 to 20 turns that each add 500 to 15,000 tokens, tools of 0.2 to
60 s, answers of 200 to 2,500 tokens. How these lie between their bounds is chosen here so that what
is known of the sample comes out: reuse of 0.91 and answers of 900 tokens in the mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from radixroute.replay.errors import InvalidShape
from radixroute.replay.synth.draws import Draws, Shape
from radixroute.replay.synth.prompts import EMPTY, Context, Piece, Pieces

_BOUNDS = ("turns", "added_tokens", "output_tokens", "tool_s")


@dataclass(frozen=True, slots=True)
class Agents(Shape):
    """Agents at work: each turn adds what a tool gave to a context that goes on growing.

    Lengths lie between bounds: `sigma` counts for nothing.
    """

    trunk_tokens: int = 63 * 512  # instructions and tool schemas, the same for all
    groups: int = 8  # of programs
    group_tokens: int = 20 * 512  # each group's own, e.g. what they all read first
    least_turns: int = 10
    most_turns: int = 20
    least_added_tokens: int = 500  # in a turn, beside the answer before it
    most_added_tokens: int = 15_000
    least_output_tokens: int = 200
    most_output_tokens: int = 2_500
    least_tool_s: float = 0.2
    most_tool_s: float = 60.0
    # Turns whose answer starts several agents at once; the next turn waits for all of them.
    parallel_share: float = 0.0
    parallel: int = 3  # of them
    programs_per_s: float = 0.1

    def __post_init__(self) -> None:
        Shape.__post_init__(self)
        for name in _BOUNDS:
            least, most = getattr(self, f"least_{name}"), getattr(self, f"most_{name}")
            if least > most:
                raise InvalidShape(f"most_{name}: no less than least_{name}, {least}, not {most}")
        if self.parallel < 2:
            raise InvalidShape(f"parallel: 2 or more, not {self.parallel}")

    def make(self, draws: Draws) -> Pieces:
        pieces = Pieces()
        trunk = pieces.grown(EMPTY, pieces.text(self.trunk_tokens))
        groups = dict[int, Context]()
        for start in draws.arrivals_ns(self.requests, self.programs_per_s).tolist():
            if len(pieces) == self.requests:
                break
            group = draws.count(0, self.groups - 1)
            if group not in groups:
                groups[group] = pieces.grown(trunk, pieces.text(self.group_tokens))
            self._program(draws, pieces, groups[group], start)
        return pieces

    def _program(self, draws: Draws, pieces: Pieces, context: Context, start_ns: int) -> None:
        """Turn by turn, until it ends or the workload has its size."""
        wait_ns, before, said = start_ns, list[int](), list[Piece]()
        for _ in range(draws.count(self.least_turns, self.most_turns)):
            if len(pieces) == self.requests:
                return
            context = self._added(draws, pieces, context, said)
            said = [self._answer(draws, pieces)]
            before = [pieces.add_grown(wait_ns, context, said[0].tokens, after=before)]
            if draws.happens(self.parallel_share):
                self._side_by_side(draws, pieces, context, said, before)
            wait_ns = draws.tool_ns(self.least_tool_s, self.most_tool_s)

    def _side_by_side(
        self, draws: Draws, pieces: Pieces, context: Context, said: list[Piece], before: list[int]
    ) -> None:
        """Agents that a turn starts: each adds to the same context. What they answer is all in the
        next turn's, which waits for all of them: `said` and `before` become theirs."""
        first, (turn,) = list(said), before
        for _ in range(min(self.parallel, self.requests - len(pieces))):
            said.append(self._answer(draws, pieces))
            own = self._added(draws, pieces, context, first)
            wait_ns = draws.tool_ns(self.least_tool_s, self.most_tool_s)
            before.append(pieces.add_grown(wait_ns, own, said[-1].tokens, after=[turn]))
        if len(before) > 1:
            before.remove(turn)

    def _added(
        self, draws: Draws, pieces: Pieces, context: Context, said: Sequence[Piece]
    ) -> Context:
        """With what was said since, and what a tool gave."""
        n_added = draws.count(self.least_added_tokens, self.most_added_tokens)
        return pieces.grown(context, *said, pieces.text(n_added))

    def _answer(self, draws: Draws, pieces: Pieces) -> Piece:
        return pieces.text(draws.spread_tokens(self.least_output_tokens, self.most_output_tokens))
