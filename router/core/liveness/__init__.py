"""Liveness: which workers are there, and what time alone does to them and to requests.

Owns nothing that lasts but when it last looked: members, bookings and requests are changed by their
own verbs. Never opens a connection and reads no clock.

The way in: `Membership` for what is heard, `Watch.tick` for what is not.

    membership.py       what a worker's coming, going and silence mean for the requests on it
    inquiry.py          attempts that heartbeats do not count: their worker is asked
    watch.py            silence, deadlines, waits, leases, breakers: each tick
"""
