"""A fake of a server that has no more than OpenAI's API, over a fake model: texts come back, unless
it is one that tells ids. Its cache is its own affair.
"""

from typing import Any

from radixroute.request.detokenizer import IncrementalDetokenizer
from tests.engines.fake_cache import Extra
from tests.engines.fake_engine import MODEL, FakeEngine, error
from tests.engines.fake_http import Reply
from tests.engines.fake_run import Run
from tests.worker.fakes import EOS

HALVES = (95, 96)  # halves of characters, which come as text only once they are whole
_KNOWN = {
    *("model", "prompt", "stream", "stream_options", "return_token_ids", "max_tokens"),
    *("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "logit_bias"),
}


class FakeOpenAi(FakeEngine):
    forbidden = (EOS, *HALVES)

    def may_have(self) -> None:
        self.has_events = self.returns_ids = False
        self.takes_ids = True
        self.owner = "somebody"
        self.n_proofs = 0
        self.has_usage = True
        self.counts_each, self.adds = 1, 0  # of a text's tokens, and what it puts before them

    def route(
        self, path: str, headers: dict[str, str], asked: dict[str, Any], body: bytes
    ) -> Reply:
        if path == "/v1/models":
            return self.models(self.owner)
        if path == "/v1/completions":
            is_ours = _KNOWN.issuperset(asked)
            return self._complete(asked) if is_ours else self.chats.reply(asked, headers, body)
        if path == "/v1/chat/completions":
            return self.chats.reply(asked, headers, body)
        return error(404, "not_found", "no such page")

    def _complete(self, body: dict[str, Any]) -> Reply:
        if isinstance(body["prompt"], str):
            tokens = self.tokenizer.encode(body["prompt"]).tolist()
            n_tokens = len(tokens[:: self.counts_each])
            usage = {"prompt_tokens": n_tokens + self.adds} if self.has_usage else None
            return Reply(200, {"choices": [{"text": "?"}], "usage": usage})
        if not body.get("stream"):
            self.n_proofs += 1
            is_well = not (self.is_held or self.core_is_dead)
            return Reply(200, {"choices": [{"text": "?"}]}) if is_well else Reply(503, b"")
        self.received.append(body)
        assert body["model"] == MODEL
        if self.is_full():
            return error(503, "overloaded", "try later")
        if not self.takes_ids:
            return error(400, "invalid_request_error", "prompt must be a string")
        return self.take(
            Run(
                body,
                list(body["prompt"]),
                body["max_tokens"],
                Extra(),
                temperature=body["temperature"],
                seed=body["seed"],
            )
        )

    async def stream(self, run: Run, send: Any) -> None:
        texts = IncrementalDetokenizer(self.tokenizer, run.tokens[:1])
        finish = None
        while finish is None:
            said = await run.said.get()
            if isinstance(said, int):
                kind = "invalid_request_error" if said < 500 else "server_error"
                await send({"error": {"message": "it failed", "type": kind, "code": None}})
                break
            token, finish = said
            choice = {"index": 0, "text": texts.push((token,)), "finish_reason": finish}
            if self.returns_ids:
                choice["token_ids"] = [token]
            await send({"id": "c", "object": "text_completion", "choices": [choice]})
        if finish is not None:
            self.cached_told.append(run.n_cached)
            details = {"cached_tokens": run.n_cached} if self.has_details else None
            usage: dict[str, Any] = {"prompt_tokens": run.n_prompt}
            usage |= {"completion_tokens": run.n_output, "prompt_tokens_details": details}
            await send({"id": "c", "choices": [], "usage": usage})
        await send(None)
