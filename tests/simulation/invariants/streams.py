"""Each request ends exactly once; what its client reads is whole, in order and right."""

from typing import TYPE_CHECKING

from radixroute.router.messages.actions import Action, Emit, Fail, Failure
from tests.simulation.ledger import Client, tokens_of
from tests.simulation.prompts import text_of

if TYPE_CHECKING:
    from tests.simulation.invariants import Watchers


class Streams:
    def __init__(self, watchers: "Watchers") -> None:
        self._watchers = watchers
        self._claim = watchers.claim
        self._world = watchers.world

    def acted(self, action: Action) -> None:
        match action:
            case Emit():
                self._emitted(self._client(action.request_id), action)
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
        usage = emit.usage
        self._claim("usage", usage is not None, f"{name}: no usage at its end")
        if usage is not None:
            counts = (usage.prompt_tokens, usage.output_tokens, usage.attempts)
            right = (len(client.spec.prompt), len(got), client.attempt)
            self._claim("usage", counts == right, f"{name}: usage {counts}, not {right}")
            is_possible = 0 <= usage.cached_tokens <= usage.prompt_tokens
            self._claim("usage", is_possible, f"{name}: {usage.cached_tokens} tokens cached")

    def _failed(self, client: Client, failure: Failure) -> None:
        name, world, claim = client.request_id, self._world, self._claim
        was_told = client.worker is None or failure is Failure.WORKER_ERROR
        claim("abort told", was_told, f"{name} fails, and {client.worker} goes on with it")
        match failure:
            case Failure.DEADLINE:
                is_over = world.edge.clock_ns >= client.spec.deadline_ns
                claim("deadline", is_over, f"{name}: failed before its deadline")
            case Failure.TOO_MANY_DEATHS:
                claim("deaths", client.deaths >= 2, f"{name}: {client.deaths} deaths were too many")
            case Failure.QUEUE_FULL:
                plan, ledger = world.plan, world.ledger
                # It is in the ledger itself.
                n, n_waiting = len(ledger.open) - 1, ledger.n_waiting - 1
                is_full = n >= plan.max_in_flight or n_waiting >= plan.max_waiting
                claim("queue full", is_full, f"{name}: refused with {n_waiting} waiting")
            case Failure.NO_WORKERS:
                alive = any(w.life is not None and w.is_listed for w in world.workers.values())
                claim("patience", not alive, f"{name}: no worker, it is said, and one lives")
            case Failure.WORKER_ERROR:
                claim("errors", client.was_told_error, f"{name}: no worker reported an error")
                claim("refusals", not client.was_refused, f"{name}: failed since a worker was full")
