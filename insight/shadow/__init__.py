"""Shadows: policies that are asked what the live one is asked, with caches of their own.

Owns what would have been. Live caches would favour the live policy, so each shadow has a simulated
fleet as large and as fast as the live one's is thought to be; the live policy's own shadow beside
reality shows what that is worth. Never decides anything, and runs in a process of its own.

The way in: `Shadows` (`shadows.py`), a reader of the router's tape.

    shadows.py         one router's shadows: when they begin, what they are fed with
    collector.py       the tape's requests as rows, in order of arrival
    comparison.py      what each shadow made of the same requests, and how sure that is
    metrics.py         what a page shows of them
    process.py         the process that runs them, seen from the router's loop
    child.py           that process
    simulations.py     each policy's fleet and router in it
    node_numbers.py    block keys as small numbers
    node_kernels.py    their hash tables, compiled
    messages.py        what travels between the two processes
"""
