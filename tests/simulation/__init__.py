"""Deterministic simulation: the router's core, index, event streams and policies under one seed.

Virtual time, no sockets, no threads, no sleep: a seed decides everything, so a failure is a number.
`python -m tests.simulation --seed N` does one seed again.

    plan.py         what a seed decides before time begins: fleet, settings, deeds
    drawing/        how it decides
    deeds.py        what the world does to the router, as data
    world.py        the world of one seed: builds it, does the deeds, lets it come to rest
    clients.py      what clients ask for, and what they do with leases
    edge.py         the router's edge: sessions, event link, clock; performs the core's actions
    adapter.py      the one place that knows the core's verbs
    glance.py       the little of the router that is looked at after each input
    meter.py        what an input costs, in calls
    ledger.py       what the router should have, by what went in and out
    standing.py     what it should think of workers that fail what they are given
    prompts.py      prompts and their answers
    agenda.py       virtual time
    seeds.py        many seeds, until one breaks an invariant
    shrink.py       a shorter schedule that breaks the same invariant
    planted.py      bugs planted in copies of the router's files; how many seeds find each
    fleet/          fake workers with real streams
    invariants/     what must hold
    bugs/           the planted bugs as patches, and what found them
"""
