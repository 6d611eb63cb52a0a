"""Workers as the router knows them: who is listed, what they were given, how fast they are.

Owns membership with its transition table, the load book, learned speeds, the audit, and the tables
of numbers that a decision reads at once. Never opens a connection and never chooses.

The way in: `Members` and `LoadBook`.

    members.py           listed workers and where each stands in its life
    load.py              what this router gave each worker, and what workers say they still have
    speed.py             how long steps take, learned from reported timings
    speed_kernels.py     the sums behind it and the lines through them: the compiled arithmetic
    recent_prefill.py    how much each worker was given to cache lately
    audit.py             what workers tell of their caches against what their events say
    claims.py            one claim of a worker, and what an audit says of all
    credit.py            whether what a worker's events say counts: lost at once, earned back
    journal.py           the last batches of a stream: what a worker held at a moment before
    breakers.py          workers that fail what they are given are left alone for a while
    idle.py              for how long a worker had nothing to run while requests waited
    columns.py           where each worker's numbers stand in those tables
"""
