"""Policies for replays only: what other systems do that no router here should.

Each file has its source in its docstring and a table `POLICIES` of name -> factory, as those in
`baselines/`. Simulations find them by name; a router refuses to serve by one, and so do its doors.

    program_pausing.py    ThunderAgent: programs of agents held back until their contexts fit
"""
