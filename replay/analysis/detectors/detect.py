"""All detectors over one run. Pure; a simulated run and a live one alike.

What is not known of a run is not judged: a live one tells neither its caches' blocks nor learned
speeds.
"""

from radixroute.replay.analysis.detectors import company, placement, shares
from radixroute.replay.analysis.detectors.occupancy import Occupancy
from radixroute.replay.findings import Finding
from radixroute.replay.results import RunResult
from radixroute.replay.traces.trace import Prefixes

DEFINITIONS = {
    "starved": "A worker that is not slower got less than half of its share: of requests, of"
    " computed tokens, and of prompts that nobody had cached more than a little of.",
    "wrong_speed": "The router thinks a worker slower or faster beside the others, by half or more,"
    " than the prompts that were alone there took.",
    "uneven_caches": "A cache is not half full while others evicted at least half of what they"
    " hold.",
    "wasted_copies": "Tokens computed though another worker held them, and never found by a later"
    " request; 15 % of all computed ones or more.",
    "moved_for_nothing": "Tokens computed again though the worker that held them had no prompt"
    " pending; 10 % of all computed ones or more.",
    "slowed_by_company": "Time between tokens that spreading requests evenly would have saved while"
    " a worker idled; 10 % of it or more.",
    "waited_beside_idle": "Time to first tokens that an idle worker would have saved, computing all"
    " of the prompt; 5 % of it or more.",
}


def detect(run: RunResult, numbered: Prefixes) -> tuple[Finding, ...]:
    """In the order of `DEFINITIONS`; empty where all is well. `numbered`: prefixes for the run's
    block size. O(blocks + requests log requests + requests workers)."""
    seen = Occupancy.of(run)
    if not len(seen):
        return ()
    placed = placement.follow_prefixes(run, numbered, seen)
    found = (
        shares.starved(seen, run, placed.is_free),
        shares.wrong_speed(seen, run),
        shares.uneven_caches(run),
        placement.wasted_copies(seen, placed),
        placement.moved_for_nothing(seen, placed),
        company.slowed_by_company(seen),
        company.waited_beside_idle(seen),
    )
    return tuple(one for one in found if one is not None)
