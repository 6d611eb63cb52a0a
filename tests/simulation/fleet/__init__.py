"""The fleet of a simulation: workers that are fake where they compute and real where they speak.

engine.py    a fake engine: seats, prefill and decode times, a cache of blocks
cache.py     the blocks it holds, and the events it tells about them
hoard.py     a publisher's account without a limit of copies
life.py      one life of a worker's process: its engine, its stream of events, its sessions
liar.py      what a worker says that is not so
links.py     the wires: one that keeps order until it breaks, one that loses and mangles
"""
