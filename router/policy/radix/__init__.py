"""Radix: the default policy, which binds late, and its form that does without cache events.

Owns the weights of its cost, what is usual by now, the accounts of replicas and who begins what.
The way in is `RadixPolicy`; docs/policy.md has the reasons and what was measured.

radix_policy.py     the policy: one request at once, or all that wait together
planning.py         between requests that wait and the kernel that places them
scores.py           terms of a decision, for the choice and for `explain`
cost_kernels.py     what each worker would cost, and who goes where: the compiled arithmetic
weights.py          the constants of a cost that nothing teaches
beginnings.py       which requests begin something, and how many follow each
replicas.py         when one more copy of a hot prefix is worth computing
prefix_approx.py    the same policy on blocks learned from its own decisions
learned.py          those blocks
"""
