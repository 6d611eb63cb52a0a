"""Core: requests in flight, from acceptance to their one end. No clock, no I/O, no randomness.

`(state, input, now) -> actions`, the same ones every time. Owns requests, the waiting queue,
leases, what each worker's coming and going means for them, and the logs of what was decided. Asks
policies and knows none of them by name.

The way in: `RouterCore`; every input is one of its methods. Every request waits in `queue/` or runs
on one worker; `Scheduler` and `Booker` bring it from the one to the other.

    router_core.py     every input of the router, in one class
    dispatcher.py      accepts requests, takes them back from workers, ends them
    scheduler.py       the front of the queue meets the workers that can take something
    booking.py         where a request gets a worker, and where what was booked ends
    delivery.py        workers' outputs to clients: each position once, in order
    requests.py        one request, and the table of those that have not ended
    leases.py          bookings of clients that stream from the worker themselves
    hits.py            what engines report about cached prompts
    latencies.py       how long requests that ended had waited and run, in buckets
    trial.py           another policy for some of the sessions, and back where it is worse
    snapshot.py        what there is to see of one router, as plain records
    state.py           the parts of one router, in one record
    logs/              what was done and why, for those who look
    queue/             who is let in, who waits, and in what order
    liveness/          which workers are there, and what time alone does
"""
