"""The demo's numbers: medians and worsts, verdicts both ways, pool sizes, tables."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from radixroute.demo.errors import BadPlan
from radixroute.demo.plan import DemoPlan, kv_memory, size_up
from radixroute.demo.port import Hits
from radixroute.demo.result.report import faults_of, mean_ceiling, pool_fault, summarize, verdict
from radixroute.demo.result.table import run_table, summary_markdown, summary_table
from radixroute.demo.run import PolicyRun, Ttft, find_faults, ttft_of
from radixroute.demo.workload.chat_driver import ChatOutcome, ChatRequest
from radixroute.demo.workload.chats import ChatShape, make_workload
from radixroute.replay.analysis.infinite_cache import Ceiling
from tests.demo.fake_router import ByteTokenizer


def make_run(policy, rate, mean_ms, seed=1, pool=60):
    return PolicyRun(
        policy=policy,
        seed=seed,
        hit_rate=rate,
        ttft=Ttft(mean_ms, mean_ms / 2, mean_ms * 3),
        requests_per_worker={"worker-0": 5, "worker-1": 6},
        hits=Hits(11, 1000, round(1000 * rate), round(1000 * rate)),
        ceiling=Ceiling(1000, 800, 100),
        outcome=ChatOutcome((), 0, 1.0, 8.5),
        faults=(),
        pool_blocks=pool,
        load_before=0.5,
    )


def printed(table):
    shown = io.StringIO()
    Console(file=shown, width=120).print(table)
    return shown.getvalue()


def test_summary_shows_the_median_and_the_worst_of_each():
    rows = [(0.7, 900), (0.6, 1000), (0.8, 1100)]
    (row,) = summarize([make_run("radix", rate, ms) for rate, ms in rows])
    assert (row.hit_rate.median, row.hit_rate.worst) == (0.7, 0.6)
    assert (row.ttft_mean.median, row.ttft_mean.worst) == (1000, 1100)
    assert (row.ttft_p99.median, row.ttft_p99.worst) == (3000, 3300)


@pytest.mark.parametrize(
    ("rate", "ms", "word"),
    [(0.76, 790, ": met."), (0.74, 790, "NOT met"), (0.76, 810, "NOT met"), (0.5, 1500, "NOT met")],
)
def test_verdict_follows_the_numbers_both_ways(rate, ms, word):
    runs = [make_run("round_robin", 0.6, 1000), make_run("radix", rate, ms)]
    assert word in verdict(2 * runs)
    assert "met" not in verdict(runs)  # one run each: luck decides


def test_without_both_policies_there_is_no_verdict():
    assert verdict([make_run("radix", 0.9, 100)]).startswith("No verdict")


def test_tables_and_markdown_say_the_same():
    runs = [make_run("round_robin", 0.61234, 1000), make_run("radix", 0.765, 700)]
    for text in (printed(run_table(runs)), printed(summary_table(runs)), summary_markdown(runs)):
        assert "0.612" in text
        assert "0.765" in text
        assert f"{mean_ceiling(runs):.3f}" in text
    assert "5 / 6" in printed(run_table(runs))
    assert summary_markdown(runs).count("\n") == 4


@pytest.mark.parametrize(("pool", "fits"), [(49, False), (50, True), (70, True), (71, False)])
def test_a_pool_must_be_half_to_seven_tenths_of_the_working_set(pool, fits):
    run = make_run("radix", 0.7, 100, pool=pool)
    assert (pool_fault(run) is None) == fits
    assert (faults_of([run]) == []) == fits


def test_in_flight_must_not_be_a_multiple_of_the_workers():
    with pytest.raises(BadPlan):
        DemoPlan(workers=3, in_flight=9)
    assert DemoPlan().in_flight >= 8
    assert DemoPlan().in_flight % DemoPlan().workers != 0


@pytest.fixture
def model(tmp_path):
    config = {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 49152,
        "rms_norm_eps": 1e-5,
        "intermediate_size": 1536,
        "max_position_embeddings": 8192,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "hidden_size": 576,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_a_block_costs_keys_and_values_of_every_layer(model):
    assert kv_memory(model, 1, 16, "bfloat16") == 16 * 23_040
    assert kv_memory(model, 10, 16, "float32") == 10 * 16 * 46_080


def test_one_pool_serves_all_workloads_or_is_refused(model):
    small = ChatShape(chats=3, min_turns=1, max_turns=1)
    large = ChatShape(chats=21, min_turns=4, max_turns=4)
    alike = [make_workload(1, small), make_workload(2, small)]
    sizes = size_up(alike, DemoPlan(), ByteTokenizer(), model)
    assert all(0.5 <= share <= 0.7 for share in sizes.shares)
    with pytest.raises(BadPlan):
        size_up([alike[0], make_workload(1, large)], DemoPlan(), ByteTokenizer(), model)


def request(worker="worker-0", **changes):
    fields = {
        "chat_id": "chat-00",
        "turn": 0,
        "messages": (),
        "ready_ns": 0,
        "sent_ns": 0,
        "in_flight": 1,
        "first_ns": 5_000_000,
        "worker_id": worker,
        "prompt_tokens": len(ByteTokenizer().encode_chat(())),
        "cached_tokens": 16,
        "attempts": 1,
    }
    return ChatRequest(**fields | changes)


SOUND: dict[str, Any] = {
    "outcome": ChatOutcome((request(), request("worker-1")), 0, 1.0, 1.0),
    "hits": {"worker-0": Hits(1, 100, 16), "worker-1": Hits(1, 100, 16)},
    "bound": Ceiling(200, 40, 10),
}


def test_what_agrees_has_no_fault():
    assert find_faults(**SOUND, tokenizer=ByteTokenizer()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"outcome": ChatOutcome((request(), request("worker-1")), 2, 1.0, 1.0)}, "never sent"),
        ({"outcome": ChatOutcome((request(),), 0, 1.0, 1.0)}, "engines count 2 requests"),
        ({"hits": {"worker-0": Hits(2, 100, 32)}}, "answers came from"),
        ({"hits": {"worker-0": Hits(1, 9, 17), "worker-1": Hits(1, 9, 16)}}, "answers say 32"),
        ({"bound": Ceiling(200, -40, 10)}, "above the ceiling"),
        (
            {
                "outcome": ChatOutcome(
                    (request(), request("worker-1", prompt_tokens=1)), 0, 1.0, 1.0
                )
            },
            "other lengths",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_disagreement_is_a_fault(changes, words):
    faults = find_faults(**SOUND | changes, tokenizer=ByteTokenizer())
    assert any(words in fault for fault in faults), faults


def test_requests_without_a_first_token_have_no_time_to_it():
    silent = request(first_ns=None, error="UNAVAILABLE")
    assert ttft_of(ChatOutcome((request(), silent), 0, 1.0, 1.0)) == Ttft(5.0, 5.0, 5.0)
