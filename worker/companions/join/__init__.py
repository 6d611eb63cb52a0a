"""Joining: what must hold of an engine before it serves as a worker.

joining.py      `Joining`: asks, tries out, and says what worker it makes
checklist.py    the checks, in order: each looks at what was said, and finds or does not
findings.py     codes and sentences of what is found, each with the flag that mends it
examination.py  `examine`: all of it without joining, and all that is found, not the first alone
"""
