"""The checks, a file for each kind. Each has a table; all of them are pure.

joining.py    what keeps an engine or a worker out: the join's own findings
engines.py    engines beyond their joining: buffers, ports, pools, how they differ
weights.py    engines under one name with other weights
refusals.py   workers that the router refuses, and versions that do not fit
failures.py   requests that end with an error, most of them, and with which
members.py    workers that do not serve, or not well
streams.py    event streams and the audit: what is believed of caches
caches.py     hit rates, and why they are not what they could be
prompts.py    what clients send: what no cache can serve, and why
load.py       queues, loops, workers that starve
engine_use.py  engines that others use, that queue with room, whose answers something holds back
safety.py     who can reach what, and who can read it
machine.py    this machine: disks, memory, ports, what was left behind
"""
