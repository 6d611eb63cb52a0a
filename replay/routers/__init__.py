"""Routers of a simulation: one or several real cores over one simulated fleet, and what they hear.

Owns what a router of a simulation is told of workers and requests, and who is a member when the
fleet changes. Performs nothing: `simulate` does what cores want done, and lets time pass.

The way in: `SimulatedRouter`.

    load_reports.py         what workers say of each router's requests, in heartbeats and steps
    simulated_requests.py   the rows of a trace as routers see them, and their outputs
    simulated_router.py     the core and index of one router, and its members
"""
