"""Doctor: what is wrong with a fleet, or with an engine before it is attached, and what mends it.

Owns what is asked (`Evidence`), the table of checks, each with a code, and nothing that lasts: it
changes nothing anywhere. Checks are pure: the same evidence gives the same findings. Whoever
gathers evidence does so at the edge (`gather/`) and judges nothing.

The way in: `gather` in `gather/gathering.py`, then `diagnose` in `table.py`.

    table.py      every check, in the order in which findings are shown; `diagnose`
    check.py      `Check`, `Seen`, `Finding`: what a check is and what it says
    evidence.py   what was seen, as records
    flags.py      what each kind of engine calls the options that fixes name
    page.py       the numbers of a page of metrics
    reuse.py      what a request log says of caches: reached, reachable, and why not
    speeds.py     which workers take longer to a first token than others, by a request log
    kinds/        the checks, a file for each kind
    gather/       the edge: asks router, workers, engines and this machine
"""
