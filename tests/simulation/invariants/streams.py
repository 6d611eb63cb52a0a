"""Each request ends exactly once; what its client reads is whole, in order and right."""

from typing import TYPE_CHECKING

from radixroute.request.verbatim.records import More
from radixroute.router.messages.actions import Action, Emit, Fail, Failure, Usage
from tests.simulation.ledger import Client, tokens_of
from tests.simulation.prompts import BLOCK_TOKENS, prompt_in, text_of

if TYPE_CHECKING:
    from tests.simulation.invariants import Watchers

_RETRIED_SHARE, _RETRIED_FLOOR = 0.2, 3


class Streams:
    def __init__(self, watchers: "Watchers") -> None:
        self._watchers = watchers
        self._claim = watchers.claim
        self._world = watchers.world

    def acted(self, action: Action) -> None:
        match action:
            case Emit() if action.passage is not None:
                self._passed(self._client(action.request_id), action.passage.data, action)
            case Emit():
                self._emitted(self._client(action.request_id), action)
            case More():
                self._passed(self._client(action.request_id), action.data)
            case Fail():
                self._failed(self._client(action.request_id), action.failure)

    def _client(self, request_id: str) -> Client:
        client = self._world.ledger.clients[request_id]
        self._claim("ends once", client.end is None, f"{request_id}: output after its end")
        return client

    def _emitted(self, client: Client, emit: Emit) -> None:
        name, n, answer = client.request_id, len(client.got), client.answer
        self._claim("positions", emit.position == n, f"{name}: {emit.position} follows {n}")
        tokens = tokens_of(emit.token_ids)
        truth = [answer.token(position) for position in range(n, n + len(tokens))]
        self._claim("tokens", tokens == truth, f"{name}: wrong tokens at {n}")
        self._claim("text", emit.text == "".join(map(text_of, tokens)), f"{name}: wrong text")
        is_fenced = name in self._world.edge.fenced
        self._claim("fence", not is_fenced, f"{name}: output of an attempt that was given up")
        self._claim("output", bool(tokens) or emit.finish is not None, f"{name}: an empty message")
        if emit.finish is None:
            return
        got = [*client.got, *tokens]
        wanted = answer.finish_after(len(got) - 1, got[-1]) if got else None
        self._claim("whole", wanted is not None, f"{name}: ended after {len(got)} tokens")
        text = f"{name}: finish {emit.finish}, not {wanted}"
        self._claim("finish", emit.finish is wanted, text)
        self._judge_usage(client, emit.usage, n_got=len(got), n_prompt=len(client.spec.prompt))

    def _passed(self, client: Client, data: bytes, emit: Emit | None = None) -> None:
        """Bytes of a verbatim answer, a token in each piece; `emit` of its first and its last."""
        name, claim, n = client.request_id, self._claim, len(client.passed)
        truth = client.answer.token(n).to_bytes(4, "little")
        is_last = emit is not None and emit.finish is not None
        claim("bytes", data == truth or (is_last and not data), f"{name}: wrong bytes at {n}")
        is_fenced = name in self._world.edge.fenced
        claim("fence", not is_fenced, f"{name}: output of an attempt that was given up")
        if emit is not None:
            passage = emit.passage
            has_head = passage is not None and bool(passage.status)
            claim("head", has_head == (n == 0), f"{name}: a head before byte {n}, or none")
        if emit is None or emit.finish is None:
            return
        whole = [*client.passed, data] if data else client.passed
        last = client.answer.finish_after(len(whole) - 1, client.answer.token(len(whole) - 1))
        claim("whole", last is not None, f"{name}: ended after {len(whole)} pieces")
        n_prompt = client.spec.prompt_tokens
        told = len(prompt_in(client.spec)) if client.answer.tells_usage else n_prompt
        self._judge_usage(client, emit.usage, n_got=len(whole), n_prompt=n_prompt, most=told)

    def _judge_usage(
        self, client: Client, usage: Usage | None, *, n_got: int, n_prompt: int, most: int = 0
    ) -> None:
        """`most`: of what may be cached, where its router does not know the prompt's length."""
        name = client.request_id
        self._claim("usage", usage is not None, f"{name}: no usage at its end")
        if usage is not None:
            counts = (usage.prompt_tokens, usage.output_tokens, usage.attempts)
            right = (n_prompt, n_got, client.attempt)
            self._claim("usage", counts == right, f"{name}: usage {counts}, not {right}")
            is_possible = 0 <= usage.cached_tokens <= max(most, n_prompt)
            self._claim("usage", is_possible, f"{name}: {usage.cached_tokens} tokens cached")

    def _failed(self, client: Client, failure: Failure) -> None:
        name, world, claim = client.request_id, self._world, self._claim
        claim(
            "abort told",
            client.worker is None,
            f"{name} fails, and {client.worker} goes on with it",
        )
        match failure:
            case Failure.DEADLINE:
                is_over = world.edge.clock_ns >= client.spec.deadline_ns
                claim("deadline", is_over, f"{name}: failed before its deadline")
            case Failure.TOO_MANY_DEATHS:
                claim("deaths", client.deaths >= 2, f"{name}: {client.deaths} deaths were too many")
            case Failure.QUEUE_FULL:
                claim("queue full", self._is_full(client), f"{name}: refused, and there is room")
            case Failure.NO_WORKERS:
                self._watchers.waiting.judge_no_workers(client)
            case Failure.WORKER_ERROR:
                text = f"{name}: {client.errors} errors, and it is not tried again"
                claim("errors", self._is_given_up(client), text)
            case Failure.REFUSED:
                claim("refusals", client.was_refused, f"{name}: no worker refused it")
            case Failure.NOT_RESUMABLE:
                text = f"{name}: nothing of it had gone to its client"
                claim("resumes", bool(client.passed), text)
            case Failure.HOPELESS:
                claim("hopeless", self._is_hopeless(client), f"{name}: there was time for it")

    def _is_full(self, client: Client) -> bool:
        """Without itself, which is in the ledger already."""
        plan, ledger = self._world.plan, self._world.ledger
        tokens = client.spec.prompt_tokens
        others = [c for c in ledger.waiting() if c is not client]
        n_fresh = sum(not other.is_lost for other in others)
        n_tokens = sum(other.spec.prompt_tokens + len(other.got) for other in others)
        return (
            len(ledger.guests) > plan.max_in_flight
            or ledger.n_bytes > plan.max_in_flight_bytes
            or ledger.n_tokens > plan.max_in_flight_tokens
            or n_fresh >= plan.max_waiting
            or (n_tokens + tokens > plan.max_waiting_tokens and bool(others))
        )

    def _is_given_up(self, client: Client) -> bool:
        """An error: tried once elsewhere, if there is an elsewhere and few are tried again now."""
        world = self._world
        others = [c for c in world.ledger.open.values() if c.errors and c is not client]
        most = max(_RETRIED_FLOOR, _RETRIED_SHARE * len(world.ledger.open))
        return client.errors > 1 or (
            client.errors == 1 and (len(world.edge.links) < 2 or len(others) >= most)
        )

    def _is_hopeless(self, client: Client) -> bool:
        """Not even where most of it is cached, with nothing else to do."""
        world = self._world
        left_us = (client.spec.deadline_ns - world.edge.clock_ns) / 1000
        held = max(
            model.leading(client.spec.keys.tolist()) * BLOCK_TOKENS
            for model in world.watchers.index.models.values()
        )
        tokens = max(1, len(client.spec.prompt) - held)
        plans = [worker.plan for worker in world.workers.values()]
        has_lied = any(worker.liar.has_told_times for worker in world.workers.values())
        least_us = min(plan.step_us + plan.prefill_us * tokens for plan in plans)
        return has_lied or least_us > left_us
