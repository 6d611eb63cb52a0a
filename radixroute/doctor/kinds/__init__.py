"""The checks, a file for each kind. Each has a table; all of them are pure.

attaching/    engines before they are attached, and why some are not
refusals.py   workers that the router refuses, and versions that do not fit
members.py    workers that do not serve, or not well
streams.py    event streams and the audit: what is believed of caches
caches.py     hit rates, and why they are not what they could be
keeping.py    what single engines keep: nothing, too little, for whom they must not
prompts.py    what clients send: what no cache can serve, and why
queue.py      room at the router: its limits, connections, time
load.py       loops that are late, workers that starve or are slow
safety.py     who can reach what, and who can read it
machine.py    this machine: disks, memory, ports, what was left behind
serving/      how engines do with what they are sent
"""
