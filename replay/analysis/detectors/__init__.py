"""Detectors: what went wrong in a run that its means do not show, said in plain words.

Owns what counts as wrong and from when on it is said. Pure: a run's columns in, findings out; the
same for simulated and live runs, as far as what is needed is known. Knows no policy: a finding says
what happened, not why.

The way in: `detect` in `detect.py`.

    company.py     answers slowed by others, prompts that waited, while somebody idled
    detect.py      the table of detectors, and all of them over one run
    kernels.py     goes through a run in time and asks who held a prompt's prefix
    occupancy.py   who was where when, and how long prompts take
    placement.py   sessions moved for nothing, copies for nobody
    shares.py      workers with too little of the work, wrong speeds, uneven caches
"""
