"""The command `doctor`: what is wrong with a fleet or an engine, and what mends it.

command.py   `doctor` and its options
show.py      findings on a terminal and as JSON
"""
