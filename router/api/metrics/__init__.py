"""The router's metrics: all that its page shows, in tables, and the one look that feeds them.

Owns names and meanings; the values are the core's and the links'. Nothing here is called by a
request: a look is taken when somebody asks for the page. docs/metrics.md is made of these tables.

The way in: `ROUTER_METRICS` in `table.py`, with `RouterSights.take` in `sight.py`.

    table.py      every metric of the router, one tuple
    counts.py     named counters: each `Count` once
    queue.py      who waits, what is in the house, how long it took
    fleet.py      each worker: state, load, cache, idling, event stream
    sight.py      one moment of a router, as the tables read it
"""
