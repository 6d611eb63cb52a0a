"""Requests that end with an error, most of them: which end they mostly have, and what mends it; and
settings that promise of an engine what it would refuse."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import Evidence, RouterSeen
from radixroute.doctor.kinds.streams import PLAIN
from radixroute.doctor.reuse import WHOLE
from radixroute.worker.companions.dialects.dialect import Statement

ENOUGH_LEFT: Final = 20
LEFT_SHARE: Final = 0.5  # of the log: some always have enough, or close a window
SCOPED_SHARE: Final = 0.9
ENOUGH: Final = 10  # of them: a client that tries something is none
SHARE: Final = 0.2  # of all that were asked
REFUSED: Final = "requests_refused_by_worker"
# What a plain server's API lacks, as clients of vLLM send it.
_PLAIN_LACKS: Final = "ignore_eos, top_k, min_p, repetition_penalty, min_tokens, stop_token_ids"
# Of a pool, over the engine's own word: logs count some blocks that hold nothing.
TOO_MANY: Final = 1.05


@dataclass(frozen=True, slots=True)
class _End:
    """One reason, as routers count it."""

    counter: str
    reason: str  # as their page of metrics names it, in words
    fix: str
    is_accepted: bool = True  # else it was turned away before it counted as asked


_ENDS: Final = (
    _End(
        REFUSED,
        "its engine refuses it (worker_refused)",
        "send one with curl: its error names the field or limit that the engine refuses; let "
        "clients leave it out, or start engines with the options that allow it",
    ),
    _End(
        "http_requests_malformed",
        "it is no HTTP request that can be read (malformed)",
        "see what clients or the proxy before the router send: no HTTP/1.1, or TLS to a port "
        "without it",
        is_accepted=False,
    ),
    _End(
        "http_requests_too_large",
        "its body is too large (too_large)",
        "let clients send less, or raise router.max_message_bytes",
        is_accepted=False,
    ),
    _End(
        "requests_failed_by_worker",
        "its engine answers with an error (worker_error)",
        "read the engines' logs: they answer with 5xx or break connections off; restart them",
    ),
    _End(
        "requests_failed_after_two_deaths",
        "two workers were lost with it (two_deaths)",
        "mend first what is found of workers that end; their logs say why",
    ),
    _End(
        "requests_not_resumable",
        "its worker was lost and none can go on with it (not_resumable)",
        "mend first what is found of workers that end; answers with presence or frequency "
        "penalties cannot go on elsewhere",
    ),
)


def _counts(router: RouterSeen) -> list[tuple[int, _End]]:
    """Since the router's start; most first."""
    counts = [(router.count(one.counter), one) for one in _ENDS]
    return sorted(counts, key=lambda one: -one[0])


def _fail(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    if router is None:
        return
    counts = _counts(router)
    failed = sum(n for n, _ in counts)
    asked = router.count("requests_accepted") + sum(n for n, end in counts if not end.is_accepted)
    if failed < ENOUGH or failed < SHARE * asked or not _is_so_still(router):
        return
    n, main = counts[0]
    what = (
        f"{failed:,} of {asked:,} requests ended with an error ({failed / max(1, asked):.0%});"
        f" {n:,} of them: {main.reason}"
    )
    is_plain = any(one.engine_kind == PLAIN for one in router.told.values())
    fix = main.fix
    if main.counter == REFUSED and any(_too_long(evidence)):
        fix = f"mend first what is found of companion.max_model_len; for what is left, {fix}"
    if main.counter == REFUSED and _keeps_none_apart(router):
        fix = _KEEP_APART
    beside = ""
    if main.counter == REFUSED and is_plain:
        beside = f"; a plain OpenAI server takes none of {_PLAIN_LACKS}"
    yield Seen("router", what, f"{fix}{beside}")


def _keeps_none_apart(router: RouterSeen) -> bool:
    """Whether those that ended without a first token had a salt or a tenant of their own, and none
    that has one was answered."""
    scoped = [one for one in router.log if one.apart]
    failed = [one for one in router.log if not one.HasField("first_token_ns")]
    kinds = {one.engine_kind for one in router.told.values()}
    return (
        bool(kinds & _MAY_KEEP_NONE)
        and len(scoped) >= ENOUGH
        and not any(one.outcome in WHOLE for one in scoped)
        and sum(bool(one.apart) for one in failed) >= SCOPED_SHARE * len(failed)
    )


_MAY_KEEP_NONE: Final = frozenset((PLAIN, "sglang"))
_KEEP_APART: Final = (
    "those requests have a cache_salt, or a tenant with router.tenants_share_cache = false, and "
    "their engines (older SGLang, plain servers) keep no two apart: upgrade that SGLang, serve "
    "them by vLLM, or let them share (router.tenants_share_cache = true, no cache_salt)"
)


def _leave(evidence: Evidence) -> Iterator[Seen]:
    log = () if evidence.router is None else evidence.router.log
    left = [one for one in log if one.outcome == "abort"]
    if len(left) < max(ENOUGH_LEFT, LEFT_SHARE * len(log)):
        return
    begun = sum(one.HasField("first_token_ns") for one in left)
    n_tokens = sum(one.output_tokens for one in left)
    yield Seen(
        "clients",
        f"{len(left):,} of {len(log):,} requests were given up by their clients: {begun:,} after a"
        f" first token, {n_tokens / len(left):,.0f} tokens on average",
    )


def _is_so_still(router: RouterSeen) -> bool:
    """Of the last ones; what was mended is no finding. True where nothing moves."""
    counters = [one.counter for one in _ENDS]
    rose = sum(map(router.rose, counters))
    good = router.rose("requests_finished")
    return good < ENOUGH or rose >= SHARE * good


def _stated(evidence: Evidence) -> Iterator[tuple[str, Statement]]:
    for engine in evidence.engines:
        if (said := engine.examination.statement) is not None:
            yield engine.url, said


def _too_long(evidence: Evidence) -> Iterator[Seen]:
    longest = evidence.setting("companion.max_model_len", 0)
    for url, said in _stated(evidence):
        if 0 < said.max_model_len < longest:
            what = f"companion.max_model_len is {longest:,}, and the engine itself says"
            option = _LONGEST.get(said.kind, "a longer context")
            fix = f"{_LEAVE_OUT}, or start it with {option}, as far as model and KV pool allow"
            yield Seen(url, f"{what} {said.max_model_len:,}", fix)


_LEAVE_OUT: Final = "leave companion.max_model_len out: the engine's own word counts then"
_LONGEST: Final = {"vllm": "a larger --max-model-len", "sglang": "a larger --context-length"}


def _too_much(evidence: Evidence) -> Iterator[Seen]:
    blocks, size = (evidence.setting(f"companion.{one}", 0) for one in ("kv_blocks", "block_size"))
    for url, said in _stated(evidence):
        tokens, pool = blocks * (size or said.block_size), said.kv_blocks * said.block_size
        if 0 < TOO_MANY * pool < tokens:
            what = f"companion.kv_blocks makes {tokens:,} tokens, and the engine itself says"
            yield Seen(url, f"{what} {pool:,}")


FAILURE_CHECKS: Final = (
    Check(
        "max_model_len_overstated",
        Level.ERROR,
        "companion.max_model_len is more than an engine takes",
        "requests that are longer than it takes are let in, sent there, and refused by it",
        _LEAVE_OUT,
        _too_long,
    ),
    Check(
        "kv_blocks_overstated",
        Level.WARNING,
        "companion.kv_blocks is more than an engine has",
        "it seems to have room when it is full: shares of its KV memory read too low, and what is "
        "believed of its cache is too much",
        "leave companion.kv_blocks out: the engine's own word counts then",
        _too_much,
    ),
    Check(
        "clients_leave",
        Level.WARNING,
        "most clients leave before their answers end",
        "what was computed for them is lost, and of what they found cached nobody tells",
        "raise the time for which clients, and proxies between, wait (they close connections "
        "after so long); let clients that need no more say so in max_tokens or stop; with waits "
        "that nobody should have, mend first what is found of load",
        _leave,
    ),
    Check(
        "requests_fail",
        Level.ERROR,
        "many requests end with an error",
        "their clients have no answer",
        "send one with curl and read its error",
        _fail,
    ),
)
