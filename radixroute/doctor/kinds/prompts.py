"""What clients send: prompts that no cache can serve, and why; too long ones; fields for nobody."""

from collections.abc import Iterator
from typing import Final

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import Evidence
from radixroute.doctor.flags import BLOCK_SIZE, OURS, of_all
from radixroute.doctor.reuse import APART, CUT, EARLY, FRESH, SHIFTED, Reuse

# Fewer requests say nothing of what repeats; less of it is not worth a change.
ENOUGH_REQUESTS: Final = 20
ENOUGH_TO_NEVER_REPEAT: Final = 50
WORTH: Final = 0.1  # of all prompt tokens
WORTH_SHIFTING: Final = 0.2
OF_WHAT_REPEATS: Final = 0.25
NEVER: Final = 0.99  # of all prompt tokens, for the first time
LONG_BLOCKS: Final = 4  # of a prompt, on average
UNREAD_SHARE: Final = 0.05  # of all requests
MANY_REJECTED: Final = 10  # somebody who tries something sends fewer
REJECTED_SHARE: Final = 0.05
REFUSED: Final = 5
REFUSED_SHARE: Final = 0.01


def _reuse(evidence: Evidence) -> Reuse | None:
    """Of what was asked; whether engines tell what was cached says nothing here."""
    router = evidence.router
    if router is None or len(router.log) < ENOUGH_REQUESTS:
        return None
    return router.reuse if router.reuse.answered >= ENOUGH_REQUESTS else None


def _repeats(reuse: Reuse) -> float:
    """Tokens that an earlier prompt had, however they are kept from being reused."""
    return reuse.reachable + sum(reuse.lost(cause) for cause in (EARLY, CUT, SHIFTED, APART))


def _varies(evidence: Evidence) -> Iterator[Seen]:
    reuse = _reuse(evidence)
    if reuse is None:
        return
    shifted = reuse.lost(SHIFTED)
    if reuse.share(shifted) >= WORTH_SHIFTING and shifted >= OF_WHAT_REPEATS * _repeats(reuse):
        yield Seen("clients", reuse.said)


def _cut(evidence: Evidence) -> Iterator[Seen]:
    reuse, router = _reuse(evidence), evidence.router
    if reuse is None or router is None:
        return
    cut = reuse.lost(CUT)
    if reuse.share(cut) >= WORTH_SHIFTING and cut >= OF_WHAT_REPEATS * _repeats(reuse):
        flag = of_all(BLOCK_SIZE, {one.engine_kind for one in router.told.values()})
        what = f"blocks have {router.now.info.block_size:,} tokens; {reuse.said}"
        yield Seen(
            "router", what, f"start all engines with a smaller {flag}{_HYBRID}" if flag else ""
        )


_HYBRID: Final = (
    " (16 suits most), or put more of what all share before what differs; a hybrid model whose "
    "engine chooses so large a block gains from long beginnings alone"
)


def _apart(evidence: Evidence) -> Iterator[Seen]:
    reuse = _reuse(evidence)
    if reuse is None:
        return
    apart = reuse.lost(APART)
    if reuse.share(apart) >= WORTH:
        own = evidence.setting("router.tenants_share_cache", True)
        by = "salts" if own else "tenants that share no cache, or salts"
        yield Seen("clients", f"{reuse.scopes:,} {by} keep requests apart; {reuse.said}",
                   "" if own else _ONE_TENANT)  # fmt: skip


_ONE_TENANT: Final = (
    "set router.tenants_share_cache = true where tenants may share (a cache_salt still keeps apart "
    "what must be), or give keys of one application one name in router.keys_file"
)


def _never(evidence: Evidence) -> Iterator[Seen]:
    reuse = _reuse(evidence)
    if reuse is None or reuse.answered < ENOUGH_TO_NEVER_REPEAT:
        return
    router = evidence.router
    size = 0 if router is None else router.now.info.block_size
    is_long = reuse.prompt >= LONG_BLOCKS * size * reuse.answered
    is_new = reuse.lost(FRESH) >= NEVER * reuse.prompt
    if is_long and is_new:
        yield Seen("clients", f"{reuse.answered:,} prompts, and {reuse.said}")


def _too_long(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    if router is None:
        return
    n = router.count("requests_refused_too_long")
    asked = n + router.count("requests_accepted")
    if n >= max(REFUSED, REFUSED_SHARE * asked):
        longest = router.now.info.max_model_len
        yield Seen(
            "clients", f"{n:,} of {asked:,} requests had more tokens than the {longest:,} taken"
        )


def _rejected(evidence: Evidence) -> Iterator[Seen]:
    """What doors turn away; too long ones, and those without a key, are told of elsewhere, and so
    is what engines refuse."""
    router = evidence.router
    if router is None:
        return
    n = router.count("requests_rejected") - sum(map(router.count, _TOLD_ELSEWHERE))
    asked = n + router.count("requests_accepted")
    rose = router.rose("requests_rejected")
    is_over = router.rose("requests_finished") >= MANY_REJECTED and not rose
    if n < max(MANY_REJECTED, REJECTED_SHARE * asked) or is_over:
        return
    by_field = router.now.page.by("radixroute_requests_rejected_fields_total", "field")
    ours = {name: count for name, count in by_field.items() if name not in _ELSEWHERE}
    main = max(ours, key=lambda one: ours[one], default="")
    of = f", most of them ({ours[main]:,.0f}) for what they give as {main!r}" if main else ""
    fix = (
        f"send one with curl: its error says what is wrong with {main!r}; mend the client"
        if main
        else ""
    )
    yield Seen("clients", f"{n:,} of {asked:,} requests were rejected as they stand{of}", fix)


# Counters of requests that are rejected, too; and what the page calls their fields.
_TOLD_ELSEWHERE: Final = (
    "requests_refused_too_long",
    "requests_refused_by_worker",
    "requests_without_a_known_key",
)
_ELSEWHERE: Final = ("worker", "authorization")


def _fields(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    n = 0 if router is None else router.count("http_fields_dropped")
    if n:
        yield Seen("clients", f"{n:,} fields of requests over HTTP were dropped")


def _unread(evidence: Evidence) -> Iterator[Seen]:
    """Where there is a choice of workers that a prompt could be read for."""
    router = evidence.router
    if router is None or len(router.live) < 2:
        return
    n, verbatim = router.count("verbatim_requests_unread"), router.count("verbatim_requests")
    if n < ENOUGH_REQUESTS or n < UNREAD_SHARE * router.count("requests_accepted"):
        return
    what = f"{n:,} of {verbatim:,} requests that only an engine can read went by load alone"
    is_off = not evidence.setting("router.render_verbatim", True)
    yield Seen("router", what, "set router.render_verbatim = true" if is_off else "")


PROMPT_CHECKS: Final = (
    Check(
        "prefix_varies",
        Level.WARNING,
        "prompts share text behind different beginnings",
        "only what prompts begin with alike can be reused: one token of difference ends it",
        "put first what is the same for all (system prompt, tools, documents in one order) and "
        "last what differs (the date, names, ids, the question); let a conversation that grows too "
        "long lose its middle, not its beginning",
        _varies,
    ),
    Check(
        "blocks_large",
        Level.WARNING,
        "prompts begin alike for less than a block",
        "blocks are reused whole: what is alike in one that goes on otherwise is computed again",
        f"start all engines with a smaller block ({BLOCK_SIZE['vllm']} of vLLM, "
        f"{BLOCK_SIZE['sglang']} of SGLang, {BLOCK_SIZE[OURS]} of ours){_HYBRID}",
        _cut,
    ),
    Check(
        "prompts_never_repeat",
        Level.WARNING,
        "no prompt begins as an earlier one did",
        "no cache can serve them, however they are routed",
        "see that clients send conversations as they were, neither summarised nor reworded, and "
        "instructions that all share at the beginning; where prompts are unlike by nature, "
        "--policy least_loaded does as well: then leave this out with --ignore",
        _never,
    ),
    Check(
        "scopes_split",
        Level.WARNING,
        "salts or tenants keep apart what could be shared",
        "requests of different ones share no block: what one had is computed again",
        "use one cache_salt for all that may share (a team, not a request), or set "
        "router.tenants_share_cache = true",
        _apart,
    ),
    Check(
        "requests_too_long",
        Level.WARNING,
        "requests are refused as too long",
        "their clients get an error, whatever caches hold",
        "start engines with a larger --max-model-len (--context-length of SGLang, "
        "worker.max_model_len), as far as model and KV pool allow; else let clients keep below "
        "the max_model_len that /v1/models tells",
        _too_long,
    ),
    Check(
        "requests_rejected",
        Level.WARNING,
        "clients send requests that cannot be served as they stand",
        "each is answered with 400 (INVALID_ARGUMENT) or the like, wherever it would go",
        "send one with curl: its error names the field and what it may be; mend the client",
        _rejected,
    ),
    Check(
        "chats_unread",
        Level.WARNING,
        "chats that only an engine can read (tools, pictures, structured output) go by load alone",
        "no engine tells their tokens, so nobody knows who has them cached: hits are luck",
        "start vLLM with --enable-scale-out (its /render), or let its /tokenize answer chats, "
        "through proxies too; SGLang and plain servers have no such call: --policy "
        "session_affinity keeps a conversation (X-Session-Id) at one worker",
        _unread,
    ),
    Check(
        "fields_dropped",
        Level.WARNING,
        "clients send fields that are dropped",
        "a dropped cache_salt keeps nothing apart, a dropped priority sorts nothing",
        'set router.http_client_fields = "cache_salt,priority" if clients may choose these, else '
        "tell them to leave them out",
        _fields,
    ),
)
