"""verbatim: requests that an engine gets as their clients wrote them.

lane.py       what comes of answers that have begun, in one piece a turn
relaying.py   an answer that goes to its client as it is
rendering.py  tokens of prompts that only the engine can read
seating.py    prompts that are computed by now, though nothing came of them
"""
