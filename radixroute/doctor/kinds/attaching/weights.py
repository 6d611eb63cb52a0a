"""Other weights under one name: answers that differ, or models of other roots."""

from collections.abc import Iterator, Sequence
from typing import Final

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import EngineSeen, Evidence
from radixroute.worker.companions.join.answering import Answered

# Log probability, natural: kernels that round in other ways move one by hundredths, 8-bit caches
# by tenths. Two candidates nearer than that are a tie, whichever is chosen.
TIE: Final = 0.5


def _answers(evidence: Evidence) -> Iterator[Seen]:
    """Each against the first one that it can be compared with."""
    told = [one for one in evidence.engines if one.examination.answers]
    for at, engine in enumerate(told):
        usual = next((one for one in told[:at] if have_one_name(one, engine)), None)
        n = 0 if usual is None else _differing(usual, engine)
        if usual is not None and n:
            of = len(engine.examination.answers)
            what = f"{n} of {of} greedy answers to the same prompts are other ones than {usual.url}"
            yield Seen(engine.url, f"{what} gives, and no near ties")


def _differing(one: EngineSeen, other: EngineSeen) -> int:
    pairs = zip(one.examination.answers, other.examination.answers, strict=False)
    return sum(_differ(this, that) for this, that in pairs)


def _differ(one: Answered, other: Answered) -> bool:
    """At the first token that is another: behind it prompts are no more the same. It must be far
    from a tie in what both say."""
    for at, (this, that) in enumerate(zip(one.token_ids, other.token_ids, strict=False)):
        if this != that:
            return not (_is_tie(one.told[at], this, that) or _is_tie(other.told[at], that, this))
    return False


def _is_tie(told: Sequence[tuple[int, float]], chosen: int, candidate: int) -> bool:
    known = dict(told)
    # The chosen one comes first, then the likely ones: who is not there is no more likely than any.
    least = min((logprob for _, logprob in told[1:]), default=-2 * TIE)
    return abs(known.get(chosen, 0.0) - known.get(candidate, least)) <= TIE


def are_other(one: EngineSeen, other: EngineSeen) -> bool:
    """Whatever they are called: their answers cannot be of one model."""
    return _differing(one, other) > 0


def are_alike(one: EngineSeen, other: EngineSeen) -> bool:
    """Both answered, and alike."""
    has_answers = bool(one.examination.answers and other.examination.answers)
    return has_answers and not are_other(one, other)


def have_one_name(one: EngineSeen, other: EngineSeen) -> bool:
    this, that = one.examination.statement, other.examination.statement
    return this is not None and that is not None and this.model == that.model


def _roots(evidence: Evidence) -> Iterator[Seen]:
    """Those whose answers were compared need no guess."""
    return (Seen(url, what) for url, what, is_compared in _other_roots(evidence) if not is_compared)


def roots_alike(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """URL and sentence of each engine whose root is another, though its few answers are the same.
    That is no fault by itself: folders of one model may be called differently."""
    differing = {one.where for one in _answers(evidence)}
    for url, what, is_compared in _other_roots(evidence):
        if is_compared and url not in differing:
            yield url, f"{what}; both answered a few short prompts alike"


def _other_roots(evidence: Evidence) -> Iterator[tuple[str, str, bool]]:
    """By the last part of each: that of a revision, or a folder's name, wherever it lies; and
    whether answers of both were compared."""
    first: dict[tuple[str, str], EngineSeen] = {}
    for engine in evidence.engines:
        said = engine.examination.statement
        if said is None or not name_of(engine):
            continue
        usual = first.setdefault((said.kind, said.model), engine)
        if name_of(usual) != name_of(engine):
            what = f"its model is of {said.root}, that of {usual.url} of {_root(usual)}"
            is_compared = bool(engine.examination.answers and usual.examination.answers)
            yield engine.url, what, is_compared


def _root(engine: EngineSeen) -> str:
    said = engine.examination.statement
    return "" if said is None else said.root


def name_of(engine: EngineSeen) -> str:
    """The last part of its root: of a revision, or of a folder, wherever it lies."""
    return _root(engine).rstrip("/").rpartition("/")[2]


_SAME: Final = (
    "serve one revision of one model everywhere: the same --model (SGLang: --model-path) and "
    "--revision (or the same folder), --quantization and --dtype at each engine"
)

WEIGHT_CHECKS: Final = (
    Check(
        "answers_differ",
        Level.ERROR,
        "engines give different answers under one model name: other weights",
        "an answer depends on where its request went, and one that moves is spliced of two models",
        _SAME,
        _answers,
    ),
    Check(
        "roots_differ",
        Level.WARNING,
        "engines serve one model name from folders or revisions of different names",
        "other weights under one name: an answer depends on where its request went",
        f"{_SAME}; `radixroute doctor --engine` of each compares what they answer",
        _roots,
    ),
)
