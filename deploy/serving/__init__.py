"""Engines served without Ray: a router in this process, companions in processes beside it.

Owns `radixroute serve`: which engines, their companion processes, what is said while they come and
go, and the drain at the end. The supervisor of `actors` keeps it as it keeps a cluster on Ray: a
companion process that dies takes its lives along and each gets the next one. No Ray import, no
torch. No request, token or event goes through it.

The way in: `serve` (`serve.py`) for the command line, `Serving` (`serving.py`) inside a loop.

    serve.py             the command: signals, the state file, until it is told to end
    serving.py           `Serving`: router, companions and supervisor, in one loop
    story.py             what is said of it: who waits, joined, was refused or died
    engines.py           engines as they are given: names and URLs
    process_actors.py    a life in a companion process, and the router here, as actors
    companion_links.py   companion processes: started, spoken to, ended
"""
