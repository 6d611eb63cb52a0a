"""Policies: which worker a request goes to, and why. One file a policy.

`policy.py` is the seam: a policy is asked with a `Snapshot` of the fleet and answers with a `Plan`;
it owns what only it needs. The cost of a decision is here: `radix/cost_kernels.py` for the default
policy, `baselines/` for every rival. Nothing here does I/O, books anything, or knows a wire.

The way in: `Policy` (`policy.py`), then `RadixPolicy` (`radix/radix_policy.py`), then the shortest
rival (`baselines/lmetric.py`). To add one, copy that file.

    policy.py              the seam: what a policy is asked, told, and answers
    registry.py            name -> policy; files in `baselines/` are found by themselves
    selector.py            one router's policies, and the snapshots they are asked with
    snapshot.py            the fleet at one moment, as policies see it
    view.py                what one decision may depend on; scores
    decision.py            one choice with everything it was made from
    reasons.py             one sentence on a choice: the term that decided, from its numbers
    candidates.py          who may take a request now
    expected.py            blocks that a worker will hold soon
    forecast.py            prefill, steps, load cap, ties: the rules all policies share
    forecast_kernels.py    their arithmetic over many workers, compiled
    warm.py                loads every kernel of the policies
    columns_layout.py      rows of the table of workers
    radix/                 the default policy
    formula/               what turns a formula into a policy
    baselines/             rivals and simple rules, one file each
    lab_only/              policies for replays only, one file each
"""
