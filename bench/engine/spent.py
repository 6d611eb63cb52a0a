"""Where our engine's time goes in one kind of call, by Python's own profiler.

Owns which function counts as what. The profiler adds about a microsecond a call, some per cent of a
step; shares are what to read.
"""

import cProfile
import pstats
from collections.abc import Callable
from typing import Any

# By the function's name and the end of its file's folder or file; whole time, callees included.
KINDS = {
    "products": (("linear", "ops.py"), ("per_head", "ops.py"), ("logits", "decoder.py")),
    "attention": (("read", "backend.py"), ("read", "sdpa.py")),
    "cache rows": (("write", "backend.py"), ("write", "sdpa.py")),
    "norms, gates, positions": (
        ("rms_norm", "ops.py"),
        ("add_norm", "ops.py"),
        ("swiglu", "ops.py"),
        ("rotate", "ops.py"),
    ),
    "sampling": (("choose", "sampler.py"),),
    "plans of attention": (("plan", "sdpa.py"),),
}
_WHOLE = ("step", "inference.py")
_RUNNER = ("execute", "torch_runner.py")


def spent(run: Callable[[], object]) -> dict[str, float]:
    """Shares of the time in the engine's steps that `run` makes, by kind."""
    profile = cProfile.Profile()
    profile.runcall(run)
    whole, runner = _seconds(profile, (_WHOLE,)), _seconds(profile, (_RUNNER,))
    shares = {kind: _seconds(profile, where) / whole for kind, where in KINDS.items()}
    shares["between them"] = runner / whole - sum(shares.values())
    shares["scheduling"] = 1 - runner / whole
    return {kind: round(share, 3) for kind, share in shares.items()}


def _seconds(profile: cProfile.Profile, functions: tuple[tuple[str, str], ...]) -> float:
    """Together, of calls that are in none of the others."""
    total = 0.0
    stats: Any = pstats.Stats(profile)  # its own stubs leave `stats` out
    for (file, _, name), (_, _, _, cumulative, callers) in stats.stats.items():
        if (name, file.rpartition("/")[2]) in functions:
            inner = sum(
                times[3]
                for (caller_file, _, caller), times in callers.items()
                if (caller, caller_file.rpartition("/")[2]) in functions
            )
            total += cumulative - inner
    return total
