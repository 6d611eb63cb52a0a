"""Units of time in traces, and times that cannot be meant. Pure.

A file of seconds that is read as milliseconds replays a thousand times too fast, and nothing about
it looks wrong but its rate. So the rate is looked at, and so is whether the first time is a date.
"""

from dataclasses import dataclass

from radixroute.replay.errors import BadTrace

UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
# The busiest public trace has 73 requests a second (Azure 2024, a week); 14 times that is doubted.
MAX_RATE = 1_000.0
MIN_RATE, _FEW = 1 / 60, 10
# Seconds since 1970 that lie between September 2001 and 2065.
_DATES_S = (1_000_000_000, 3_000_000_000)


def unit_ns(name: str) -> int:
    """Nanoseconds of a unit. Raises `BadTrace`."""
    if name not in UNITS:
        raise BadTrace(f"no unit of time is called {name}: give one of {', '.join(UNITS)}")
    return UNITS[name]


@dataclass(frozen=True, slots=True)
class Times:
    """The timed arrivals of a file as they were read."""

    n: int
    first_ns: int  # as the file counts
    span_ns: int
    unit: str | None  # that they were read in; None: the file itself names it


def doubt(times: Times) -> str | None:
    """Why these times cannot be meant, and what would mend it; None: they can."""
    if times.n < 2:
        return None
    is_date = date_unit(times)
    rate = _rate(times)
    is_slow = rate < MIN_RATE and times.n >= _FEW  # a few requests have no rate
    if times.span_ns and not is_slow and rate <= MAX_RATE and is_date is None:
        return None
    if not times.span_ns:
        said = f"all {times.n:,} requests come at one time"
    else:
        said = f"the {times.n:,} requests come within {duration(times.span_ns)}, {rate_text(rate)}"
    if times.unit is None:
        return f"{said}: is that meant?"
    advice = _advice(times, times.unit, is_date)
    return f"read as {NAMES[times.unit]} {said}" + (f": {advice}" if advice else "")


def date_unit(times: Times) -> str | None:
    """The unit in which the first time is a date, where that is not the unit they were read in."""
    if times.unit is None:
        return None
    found = date_unit_of(times.first_ns / UNITS[times.unit])
    return found if found != times.unit else None


def date_unit_of(number: float) -> str | None:
    """The unit in which a number is a date between 2001 and 2065; None: it is none."""
    for name, ns in UNITS.items():
        per_s = UNITS["s"] // ns
        if _DATES_S[0] * per_s <= number < _DATES_S[1] * per_s:
            return name
    return None


def duration(ns: int) -> str:
    """For people."""
    s = ns / 1e9
    for limit, width, name in (
        (120.0, 1.0, "s"),
        (7200.0, 60.0, "minutes"),
        (172800.0, 3600.0, "hours"),
    ):
        if s < limit:
            return f"{s / width:.3g} {name}"
    return f"{s / 86400:,.1f} days"


def rate_text(per_s: float) -> str:
    """Requests a second, or a minute or a day where that is more than one."""
    for width, name in ((1.0, "a second"), (60.0, "a minute"), (3600.0, "an hour")):
        if per_s * width >= 1:
            return f"{_three(per_s * width)} {name}"
    return f"{_three(per_s * 86400)} a day"


def _three(value: float) -> str:
    """Three digits, and no exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _rate(times: Times) -> float:
    return (times.n - 1) / times.span_ns * 1e9 if times.span_ns else float("inf")


def _advice(times: Times, unit: str, is_date: str | None) -> str:
    if is_date is not None:
        return (
            f"they look like {NAMES[is_date]} since 1970, so give --time-unit {is_date}"
            f" ({_read_as(times, unit, is_date)})"
        )
    could = [
        name
        for name in UNITS
        if name != unit and MIN_RATE <= _rate_in(times, unit, name) <= MAX_RATE
    ]
    if not could:
        return ""
    options = " or ".join(f"--time-unit {name} ({_read_as(times, unit, name)})" for name in could)
    return f"is another unit meant? {options}"


def _rate_in(times: Times, unit: str, other: str) -> float:
    return _rate(times) * UNITS[unit] / UNITS[other]


def _read_as(times: Times, unit: str, other: str) -> str:
    span_ns = times.span_ns * UNITS[other] // UNITS[unit]
    return f"{duration(span_ns)}, {rate_text(_rate_in(times, unit, other))}"
