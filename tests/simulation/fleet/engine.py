"""A fake engine: seats, a queue, prefill in chunks, a token a step for each request that decodes.

Pure: `begin` says how long the next step takes, `finish` what it produced. Its tokens are those of
`Answer`, whatever it was resumed from.
"""

from dataclasses import dataclass, field

from radixroute.radix.ids import Keys, Tokens
from radixroute.request.sampling import FinishReason
from radixroute.request.verbatim.records import STREAM, More, Passage
from radixroute.router.messages.inputs import Delta, PromptFacts, RequestSpec
from tests.simulation.fleet.cache import Blocks, Name, names_of
from tests.simulation.plan import WorkerPlan
from tests.simulation.prompts import BLOCK_TOKENS, Answer, keys_of, prompt_in, text_of

Place = tuple[str, str, int]  # session, request, attempt


@dataclass(slots=True)
class Running:
    """One request on this engine."""

    session: str
    spec: RequestSpec
    attempt: int
    position: int
    dispatch_seq: int
    answer: Answer
    todo: int  # prompt tokens to compute before it decodes; -1: not looked at yet
    cached: int = 0
    has_reported: bool = False
    owes_finish: FinishReason | None = None
    position_at: tuple[int, int] = (0, 0)  # of its life's events when the cache was looked up
    prompt: Tokens = field(init=False)  # as it reads it
    keys: Keys = field(init=False)  # of its full blocks: the router's count for nothing here
    names: list[Name] = field(init=False)

    def __post_init__(self) -> None:
        scope, self.prompt = self.spec.scope, prompt_in(self.spec)
        self.keys = keys_of(self.prompt, scope)
        self.names = names_of(self.keys, scope)

    @property
    def place(self) -> Place:
        return self.session, self.spec.request_id, self.attempt


class Engine:
    """Requests in the order in which they came; the first `seats` of them run."""

    def __init__(self, plan: WorkerPlan) -> None:
        self._plan = plan
        self.blocks = Blocks(
            plan.kv_blocks,
            stores_again=plan.stores_again,
            removes_parents_first=plan.removes_parents_first,
        )
        self.requests: dict[Place, Running] = {}
        self.acknowledged = 0
        self._step: list[tuple[Running, int]] = []  # with the prompt tokens each computes in it
        self.step_ms = 0.0

    @property
    def is_full(self) -> bool:
        return len(self.requests) >= self._plan.seats + self._plan.queue_len

    def submit(self, request: Running) -> None:
        self.acknowledged = max(self.acknowledged, request.dispatch_seq)
        self.requests[request.place] = request

    def abort(self, place: Place) -> None:
        self.requests.pop(place, None)

    def end_session(self, session: str) -> None:
        for place in [place for place in self.requests if place[0] == session]:
            del self.requests[place]

    def queued_tokens(self, session: str) -> int:
        return sum(
            max(0, r.todo) if r.todo >= 0 else len(r.prompt)
            for r in self.requests.values()
            if r.session == session
        )

    def begin(self, n_batches: int = 0) -> int | None:
        """Starts a step: nanoseconds until it ends; None: nothing to do.

        `n_batches`: those that its life has published.
        """
        seated = list(self.requests.values())[: self._plan.seats]
        if not seated:
            return None
        budget, n_prefill, n_decode = self._plan.batch_tokens, 0, 0
        self._step = []
        for request in seated:
            if request.todo < 0:
                self._look_up(request)
                request.position_at = (n_batches, len(self.blocks.told))
            chunk = min(request.todo, budget)
            if request.todo and not chunk:
                continue
            budget -= chunk
            n_prefill += chunk
            n_decode += not request.todo
            self._step.append((request, chunk))
        plan = self._plan
        us = plan.step_us + n_prefill * plan.prefill_us + n_decode * plan.decode_us
        self.step_ms = us / 1000
        self.prefill_tokens, self.decode_tokens = n_prefill, n_decode
        return us * 1000

    def finish(self) -> list[tuple[Running, Delta | More]]:
        """What the step produced, for those who still want it."""
        outputs: list[tuple[Running, Delta | More]] = []
        for request, chunk in self._step:
            if self.requests.get(request.place) is not request:
                continue
            request.todo -= chunk
            if request.todo:
                continue
            if not request.has_reported:
                self.blocks.take(request.names, request.keys, request.cached // BLOCK_TOKENS)
            is_verbatim = request.spec.verbatim is not None
            advance = self._pass if is_verbatim else self._advance
            outputs.append((request, advance(request)))
        self._step = []
        return outputs

    def would_kill(self, kills: set[str]) -> bool:
        """Whether the step at hand computes a prompt that ends the process."""
        return any(request.spec.request_id in kills for request, _ in self._step)

    def _look_up(self, request: Running) -> None:
        n_tokens = len(request.prompt) + request.position
        held = self.blocks.leading(request.names)
        request.cached = min(held, (n_tokens - 1) // BLOCK_TOKENS) * BLOCK_TOKENS
        request.todo = n_tokens - request.cached

    def _advance(self, request: Running) -> Delta:
        spec, position = request.spec, request.position
        finish = request.owes_finish
        if finish is not None:
            del self.requests[request.place]
            return Delta(spec.request_id, request.attempt, position, _packed(), "", finish)
        token = request.answer.token(position)
        request.position += 1
        finish = request.answer.finish_after(position, token)
        if finish is not None:
            if self._plan.says_finish_apart:
                request.owes_finish, finish = finish, None
            else:
                del self.requests[request.place]
        facts = None
        if not request.has_reported:
            request.has_reported = True
            place = request.position_at if self._plan.says_position else ()
            facts = PromptFacts(len(spec.prompt), request.cached, position, *place)
        text = text_of(token)
        return Delta(
            spec.request_id, request.attempt, position, _packed(token), text, finish, facts
        )

    def _pass(self, request: Running) -> Delta | More:
        """The same of a verbatim one: bytes, and what was cached at its end, if at all."""
        name, position, finish = request.spec.request_id, request.position, request.owes_finish
        data, n_tokens = b"", 0
        if finish is None:
            token = request.answer.token(position)
            data, n_tokens = _packed(token), 1
            request.position += 1
            if request.answer.finish_after(position, token) is not None:
                finish = FinishReason.STOP  # that it is over is all that is told of its end
                if self._plan.says_finish_apart:
                    request.owes_finish, finish = finish, None
        is_first, request.has_reported = not request.has_reported, True
        if finish is None and not is_first:
            return More(name, request.attempt, data, n_tokens)
        passage = Passage(data, n_tokens, *((200, STREAM) if is_first else ()))
        facts = None
        if finish is not None:
            del self.requests[request.place]
            if request.answer.tells_usage:
                facts = PromptFacts(len(request.prompt), request.cached, 0)
        return Delta(name, request.attempt, 0, _packed(), "", finish, facts, None, passage)


def _packed(*tokens: int):
    return b"".join(token.to_bytes(4, "little") for token in tokens)
