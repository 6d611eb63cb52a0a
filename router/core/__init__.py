"""Core: requests in flight, from acceptance to their one end. No clock, no I/O, no randomness.

`(state, input, now) -> actions`, the same ones every time. Owns requests, the waiting queue,
leases, what each worker's coming and going means for them, and the logs of what was decided. Asks
policies and knows none of them by name.

The way in: `RouterCore`; every input is one of its methods. A decision goes through `Dispatcher`.

    router_core.py     every input of the router, in one class
    dispatcher.py      gives requests to workers, takes them back, ends them
    delivery.py        workers' outputs to clients: each position once, in order
    membership.py      what a worker's coming, going and silence mean for requests
    watch.py           what time alone does: silence, deadlines, waits, leases
    requests.py        one request, and the table of those that have not ended
    waiting.py         requests without a worker, in order
    leases.py          bookings of clients that stream from the worker themselves
    decision_log.py    why each of the last requests went where it went
    request_log.py     what was asked, and what became of it
    hits.py            what engines report about cached prompts
    snapshot.py        what there is to see of one router, as plain records
    state.py           the parts of one router, in one record
"""
