"""A finding: something that a run's means do not show. Plain data."""

from dataclasses import dataclass

TITLES = {
    "starved": "workers left out",
    "wrong_speed": "speeds misjudged",
    "uneven_caches": "caches filled unevenly",
    "wasted_copies": "copies nobody asked for",
    "moved_for_nothing": "moved for nothing",
    "slowed_by_company": "crowded while others idled",
    "waited_beside_idle": "waited beside an idle worker",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """`kind` is a name of `TITLES`."""

    kind: str
    sentence: str  # with its numbers
    share: float  # how much of its measure; what 1 means is said in `detect.DEFINITIONS`
    workers: tuple[int, ...] = ()  # that it is about; empty: all

    @property
    def title(self) -> str:
        return TITLES[self.kind]


def named(workers: tuple[int, ...]) -> str:
    """Some workers in words: all of a few, or how many."""
    most = 4
    if len(workers) == 1:
        return f"worker {workers[0]}"
    if len(workers) <= most:
        return f"workers {', '.join(map(str, workers[:-1]))} and {workers[-1]}"
    return f"{len(workers)} workers ({', '.join(map(str, workers[:most]))}, ...)"
