"""What a tape must be, whatever happened: each request's records in their order, each once."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from radixroute.router.core.logs.tape import (
    DIED,
    LEASED,
    Begun,
    CacheChanged,
    CacheCleared,
    CacheCredited,
    Closed,
    Lost,
    Opened,
    Record,
    Reported,
    Sent,
    WorkerJoined,
    WorkerLost,
)


@dataclass
class Told:
    """What a tape told."""

    closed: set[str] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)
    n_resumed: int = 0


@dataclass
class _Life:
    """One request so far. `attempt`: that runs; None: it waits."""

    attempt: int | None = None
    worker: str = ""
    has_begun: bool = False
    n_reports: int = 0
    lost: str = ""  # why its last attempt was


def check_grammar(records: Iterable[Record]) -> Told:
    """Raises AssertionError where a tape cannot be true."""
    told, lives, joined, last_ns = Told(), dict[str, _Life](), set[str](), 0
    for record in records:
        assert record.now_ns >= last_ns, "time went back"
        last_ns = record.now_ns
        match record:
            case WorkerJoined(facts=facts):
                assert facts.worker_id not in joined
                joined.add(facts.worker_id)
            case WorkerLost(worker_id=worker_id):
                joined.remove(worker_id)
            case Opened(spec=spec):
                assert spec.request_id not in lives
                assert spec.request_id not in told.closed
                lives[spec.request_id] = _Life()
            case Closed(spec=spec, outcome=outcome):
                life = lives.pop(spec.request_id)
                told.closed.add(spec.request_id)
                told.outcomes[outcome] += 1
                assert (life.attempt is not None) or outcome in ("abort", "error") or life.lost
                if life.attempt is not None and outcome == "length":
                    assert life.has_begun or spec.sampling.max_tokens == 1
            case Sent() | Begun() | Reported() | Lost():
                _of_attempt(record, lives[record.request_id], joined, told)
            case CacheChanged() | CacheCleared() | CacheCredited():
                pass
            case _:
                raise AssertionError(f"{record} is new here")
    assert lives == {}, "these were never closed"
    return told


def _of_attempt(record: Record, life: _Life, joined: set[str], told: Told) -> None:
    match record:
        case Sent():
            assert life.attempt is None, "it was sent twice"
            assert record.decision.worker_id in joined
            told.n_resumed += life.lost == DIED
            life.attempt, life.worker = record.attempt, record.decision.worker_id
            life.has_begun, life.lost = False, LEASED if record.is_leased else ""
        case Begun():
            assert record.attempt == life.attempt
            assert not life.has_begun
            life.has_begun = True
        case Reported():
            assert (record.attempt, record.worker_id) == (life.attempt, life.worker)
            assert record.is_first == (life.n_reports == 0)
            life.n_reports += 1
        case Lost():
            assert (record.attempt, record.worker_id) == (life.attempt, life.worker)
            life.attempt, life.lost = None, record.why
