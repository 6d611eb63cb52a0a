"""verbatim: requests that an engine gets as their clients wrote them.

relaying.py   an answer that goes to its client as it is
rendering.py  tokens of prompts that only the engine can read
"""
