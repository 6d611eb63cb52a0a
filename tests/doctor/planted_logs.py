"""What is planted in request logs: where prompts went, what they repeat, what was found cached."""

from typing import Any

from radixroute.protos import radixroute_pb2 as pb
from tests.doctor.evidences import entry, fleet, hits, look, marks, prefix, router, worker


def by_turns(policy: str) -> Any:
    """Two workers in turn, and caches that only know what came to them: spread."""
    seen: set[tuple[str, int]] = set()
    log = []
    for at in range(60):
        where, group = "ab"[at % 2], at // 4  # four of each group, two at each worker
        log.append(entry(at, where, prefix(group), 8 if (where, group) in seen else 0))
        seen.add((where, group))
    return fleet(router(look(policy=policy), log=tuple(log)))


def spread_widely() -> Any:
    log = [entry(at, "abcdefgh"[at % 8], prefix(at // 8), 0) for at in range(64)]
    return fleet(router(log=tuple(log)))


def forgetting(kv_blocks_total: int) -> Any:
    """Nothing that comes again is found, in a cache that has had 600 blocks."""
    log = [entry(at, "a", prefix(at % 10, 60), 0) for at in range(60)]
    now = look(workers=tuple(worker(one, kv_blocks_total=kv_blocks_total) for one in "ab"))
    return fleet(router(now, log=tuple(log)))


def overfull() -> Any:
    """Forty prompts by turns at either of two workers, each with room for a third of them: of what
    is not found again most is looked for at the other one."""
    log = [
        entry(at, "ab"[at // 40 % 2], prefix(at % 40, 60), 60 * _is_found(at)) for at in range(160)
    ]
    now = look(workers=tuple(worker(name, kv_blocks_total=800) for name in "ab"))
    return fleet(router(now, log=tuple(log)))


def _is_found(at: int) -> bool:
    return at >= 40 and at % (3 if at < 80 else 12) > 0


def tenants_apart() -> Any:
    """A text of 640 tokens that all begin with, and 20 tenants that share no cache."""
    log = [
        entry(
            at, "a", prefix(at % 20, 40), 40 * (at >= 20), apart=at % 20 + 1, marks=marks((7, 641))
        )
        for at in range(100)
    ]
    return fleet(router(log=tuple(log)), settings={"router.tenants_share_cache": False})


def kept_apart(**settings: Any) -> Any:
    """A text of 640 tokens that all begin with, half of them with salts of their own."""
    log = []
    for at in range(60):
        group = at if at % 2 else 999
        cached = 40 if group == 999 and at else 0
        salt = at + 1 if at % 2 else 0
        log.append(entry(at, "a", prefix(group, 40), cached, apart=salt, marks=marks((7, 641))))
    return fleet(router(log=tuple(log)), settings=settings)


def varying() -> Any:
    """A line of each one's own, and then what all share."""
    log = [
        entry(at, "ab"[at % 2], prefix(at, 40), 0, marks=marks((at + 1, 65), (99, 576)))
        for at in range(60)
    ]
    return fleet(router(log=tuple(log)))


def cut(size: int = 256, **changes: Any) -> Any:
    """Forty prompts that all begin with 120 tokens, and go on each in its own way; blocks are
    `size` tokens."""
    log = []
    for at in range(40):
        given = {"prompt_tokens": 180, "block_size": size, "marks": marks((7, 120), (at + 9, 60))}
        log.append(entry(at, "ab"[at % 2], [], 0, **given, **changes))
    now = look()
    now.info.block_size = size
    return fleet(router(now, log=tuple(log)))


def left(n: int = 40, of: int = 60) -> Any:
    """So many of so many were given up by their clients after three tokens, and told nothing."""
    log = []
    for at in range(of):
        found = 8 if at > 2 else 0
        given: dict[str, Any] = {"predicted_tokens": found * 16, "output_tokens": 3}
        given |= {"outcome": "abort"} if at < n else {}
        log.append(entry(at, "ab"[at % 2], prefix(at % 2), found if at >= n else 0, **given))
    if n < of:
        return fleet(router(log=tuple(log)))
    silent = (worker("a", audit="", audit_judged=0), worker("b", audit="", audit_judged=0))
    return fleet(router(look(workers=silent, hits=pb.HitRatesResponse()), log=tuple(log)))


def never_repeating() -> Any:
    log = [
        entry(at, "ab"[at % 2], prefix(at, 40), 0, marks=marks((at + 1, 641))) for at in range(60)
    ]
    return fleet(router(log=tuple(log)))


def one_slow(ms: float = 400.0, *, usual_ms: float = 100.0) -> Any:
    """Prompts of one size by turns, one after the other; `b` takes longer."""
    log = []
    for at in range(60):
        sent = at * 1_000_000_000
        taken = ms if at % 2 else usual_ms
        ends = {"dispatched_ns": sent, "first_token_ns": sent + round(taken * 1e6)}
        log.append(entry(at, "ab"[at % 2], prefix(at % 2, 9), 8 if at > 1 else 0, **ends))
    return fleet(router(log=tuple(log)))


def untold(predicted: int, **settings: Any) -> Any:
    """Of what `b` had cached nothing is told, and its requests are in no hit rate."""
    log = [
        entry(at, "b", prefix(0), 0, predicted_tokens=predicted if at else 0) for at in range(30)
    ]
    now = look(
        workers=(worker("a"), worker("b", audit="", audit_judged=0)),
        hits=pb.HitRatesResponse(workers=[hits("a")]),
    )
    return fleet(router(now, log=tuple(log)), settings=settings)


def starving() -> Any:
    """All go to one of two, and are computed one behind the other."""
    log = [
        entry(at, "a", prefix(at % 40), 8 * (at >= 40), first_token_ns=at * 1000 + 5000)
        for at in range(60)
    ]
    return fleet(router(log=tuple(log)))
