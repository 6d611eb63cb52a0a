"""Synthetic workloads: seeded traces of chats, agents, documents, bursts.

Owns their shapes and parameters. The same seed and shape give the same trace everywhere; no text is
made, only numbers of prefixes.

The way in: `synthesize` in `workloads.py`.

    draws.py       random numbers: lengths, waits, popularity
    prefixes.py    single requests that begin alike: system prompts, examples, documents, crowds
    programs.py    agents at work: trunks that all share, tools, turns that wait for several
    prompts.py     prompts of pieces of text that exist only as numbers
    sessions.py    requests that follow each other: chats, agents that try branches
    workloads.py   the table of kinds
"""
