"""Queue: who is let in, who waits, and in what order they get a worker. One for all requests.

Owns the budget of the house (requests, bytes, tokens), the waiting requests with their bands and
tenants, and who must be done by when. Every verb costs O(log n) for n waiting requests; what a plan
looks at is bounded. Never chooses a worker and never ends a request: the dispatcher does.

The way in: `WaitingQueue`; docs/queue.md has the order and why.

    admission.py        first admission, before anything is tokenised: count, bytes, tokens
    waiting_queue.py    waiting requests, in the order in which they get a worker
    line.py             who waits for one adapter, or for none
    tenants.py          what each tenant was served: whoever had least goes first
    deadlines.py        by when requests must have ended
    retries.py          how many requests may be tried again at once
    pacing.py           how many resumed requests a worker computes again at once
    usual_wait.py       how long requests waited lately
"""
