"""Settings of what is seen of a live router: a frozen record with its defaults and units."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InsightSettings:
    """What is kept of a router's work, and for how long."""

    enabled: bool = True  # False: nobody looks on, and nothing is kept
