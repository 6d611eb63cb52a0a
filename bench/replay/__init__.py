"""`python -m bench.replay`: the simulated fleet and the policies beside NVIDIA Dynamo's replay.

Owns whether both simulators agree, how the default policy does, also over fleets that change and
beside other routers, and how a run grows. Begin with
`__main__.py`.

    agents.py     every policy on programs of agents, a command of its own
    __main__.py   both simulators over one trace; runs the other parts; the file
    eviction.py   what the workers' eviction policies are worth
    fleets.py     workers that differ or change, and several routers
    growth.py     time and memory for each request, up to a million
    rivals.py     every policy beside `radix`; a command of its own
    swings.py     whether work goes to and fro between workers
"""
