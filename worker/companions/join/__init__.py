"""Joining: what must hold of an engine before it serves as a worker.

joining.py      `Joining`: asks what it is, and says what worker it makes
trying_out.py   `TryingOut`: canaries, and what became of them
asking.py       one request, heard to its end or not for long
answering.py    what it says greedily to prompts that all are asked alike
pacing.py       when the tokens of its answers come
joined.py       `Joined`: one that passed
notices.py      what it may join in spite of: requests that run on, reasoning taken apart
weights.py      the fingerprint of its model, by the files that are here
checklist.py    the checks, in order: each looks at what was said, and finds or does not
findings.py     codes and sentences of what is found, each with the flag that mends it
examination.py  `examine`: all of it without joining, and all that is found, not the first alone
"""
