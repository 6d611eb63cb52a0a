"""vLLM's router, kv_aware (`vllm-project/router`, late 2026).

    cost = (uncached prompt tokens + active prefill tokens) * (active requests + 1)

The lowest goes; ties at random.
"""

from radixroute.router.policy.formula.at_once import published
from radixroute.router.policy.policy import PolicyFactory
from radixroute.router.policy.view import Scores, View


def scores(view: View) -> Scores:
    cost = (view.uncached_tokens + view.queued_tokens) * (view.in_flight + 1.0)
    return Scores(("work",), ("tokens * requests",), cost[None, :])


POLICIES: dict[str, PolicyFactory] = {"vllm_kv_aware": published(scores)}
