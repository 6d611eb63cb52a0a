"""Baselines: one file a rival, or a simple rule to compare with.

Each file has its source in its docstring and a table `POLICIES` of name -> factory. Adding a file
is all: the router, the lab, `--help` and `radixroute policies` find it (`registry.py`). Costs are
functions of a `View`, and the lowest goes (`published` in `formula/at_once.py`); what a rule must
remember it owns (`round_robin.py` is the shortest example, `dynamo.py` the longest).

dynamo.py                NVIDIA Dynamo's cost, its agentic preset, and its queue
hashed/                  rivals that place prompts by hashes of how they begin
least_loaded.py          fewest requests in flight
llm_d.py                 llm-d's weighted scorers
lmetric.py               LMetric's product
load_gradient.py         PolyServe's busiest worker that still meets the goals
lodestar.py              Lodestar's predicted first token, learned online
power_of_two.py          the less loaded of two
random.py                any worker
round_robin.py           each in turn
sglang_cache_aware.py    the SGLang gateway's longest overlap with a load gate
vllm_kv_aware.py         vLLM's router: work times requests
"""
