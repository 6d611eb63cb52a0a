"""`python -m bench.calibration`: is the simulated fleet, calibrated, our own engine?

Owns a fleet of our engine without Ray (each worker and the router a process of its own), the steps
that its engines took, and what they and their clients' times come to beside the simulator. Begin
with `__main__.py`.

    __main__.py         the options; the whole run, the table and the file
    fleet.py            workers and a router as processes, and a client
    judgement.py        rows: fitted times beside steps, simulated first tokens beside live ones
    router.py           a router, as a process
    step_recording.py   an engine's runner that notes each step, and what was noted
    worker.py           a worker of our engine, as a process
    workloads.py        traces for a small engine, and what makes a load of them
"""
