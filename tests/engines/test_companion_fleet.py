"""A router over companions over fake vLLMs: what clients get, whatever happens to engines."""

import asyncio
import random

from radixroute.radix.ids import WorkerId
from tests.engines.fleets import assert_whole, fleet
from tests.router.clusters import collect, until

SEED = 20261129


async def test_hits_are_predicted_as_the_engines_tell_them():
    print("seed", SEED)
    rng = random.Random(SEED)
    async with fleet("a", "b") as made:
        trunks = [[rng.randrange(1, 90) for _ in range(48)] for _ in range(4)]
        for turn in range(5):
            prompts = [[*trunk, *range(1, turn * 4 + 2)] for trunk in trunks]
            streams = await asyncio.gather(*(collect(made.ask(p, 6)) for p in prompts))
            for prompt, messages in zip(prompts, streams, strict=True):
                assert_whole(messages, prompt, 6)
            await until(made.is_told)
        hits = [made.state.hits.of(WorkerId(w)) for w in "ab"]
        assert sum(h.requests for h in hits) == 20
        assert sum(h.cached_tokens for h in hits) == sum(
            told for e in made.engines.values() for told in e.cached_told[2:]
        )
        assert sum(h.cached_tokens for h in hits) > 0.6 * sum(h.prompt_tokens for h in hits)
        assert sum(h.predicted_tokens for h in hits) == sum(h.cached_tokens for h in hits)
