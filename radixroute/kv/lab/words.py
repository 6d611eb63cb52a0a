"""Words: numbers as people read them, and comparisons that cannot say what the numbers do not.

Pure. A paragraph is written with these, so that a run on another machine reads differently where
its numbers differ.
"""

# Two times closer than this are told as equal: a shared machine repeats no better.
NOISE = 0.10


def seconds(value: float) -> str:
    """A time with three digits that matter."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if abs(value) >= size:
            return f"{_three(value / size)} {unit}"
    return f"{_three(value / 1e-9)} ns"


def size(n_bytes: float) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(n_bytes) >= factor:
            return f"{_three(n_bytes / factor)} {unit}"
    return f"{n_bytes:.0f} B"


def flops(value: float) -> str:
    return f"{_scaled(value)}FLOP"


def count(value: float) -> str:
    """A large number: 124 M."""
    return _scaled(value).strip()


def share(part: float) -> str:
    return f"{100 * part:.3g} %"


def times(ratio: float) -> str:
    """A factor: 3.2 times."""
    return f"{_three(ratio)} times"


def against(name: str, value: float, other: str, other_value: float, verb: str = "takes") -> str:
    """How one time or size stands to another: longer, equal within noise, or shorter."""
    if value > other_value * (1 + NOISE):
        return f"{name} {verb} {times(value / other_value)} what {other} {verb}"
    if value < other_value * (1 - NOISE):
        return f"{name} {verb} {share(value / other_value)} of what {other} {verb}"
    return f"{name} {verb} as much as {other} (within {NOISE:.0%})"


def _scaled(value: float) -> str:
    for unit, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= factor:
            return f"{_three(value / factor)} {unit}"
    return f"{value:.0f} "


def _three(value: float) -> str:
    """Three digits that matter, without exponents."""
    value = float(f"{value:.3g}")
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:g}"
