"""The lab in its quick form: every experiment gives numbers that are as they must be."""

import json

import pytest

from radixroute.kv.lab.experiments import editing, fragmentation, sharing
from radixroute.kv.lab.experiments.variants import variant_shapes
from radixroute.kv.lab.lab import NAMES, LabError, LabSettings, run_lab
from radixroute.kv.lab.measuring import exponent, summed
from radixroute.kv.lab.words import against, seconds, size
from tests.e2e.tiny_model import write_tiny_model

pytestmark = pytest.mark.torch


def _nothing(done, total, what):
    pass


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = write_tiny_model(tmp_path_factory.mktemp("model") / "tiny", max_model_len=512)
    told = []
    settings = LabSettings((folder,), is_quick=True, command="radixroute kv lab --quick")
    report = run_lab(settings, lambda *step: told.append(step))
    return report, told


@pytest.fixture(scope="module")
def found(lab):
    return {result.name: result for result in lab[0].results}


def test_every_experiment_is_there(lab, found):
    report, told = lab
    assert set(found) == set(NAMES)
    assert not report.skipped
    assert told[-1][:2] == (len(NAMES), len(NAMES))
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


def test_every_finding_explains_itself_and_draws_finite_numbers(found):
    for result in found.values():
        assert len(result.text) > 300
        assert result.plots
        assert result.tables
        for plot in result.plots:
            assert plot.series
            for series in plot.series:
                assert len(series.xs) == len(series.ys) > 0
                assert all(abs(y) < 1e15 for y in series.ys)  # neither NaN nor infinite
        json.dumps(dict(result.facts), allow_nan=False)


@pytest.mark.parametrize("model", [0, 1])
def test_counted_work_grows_as_theory_says(model, found):
    facts = found["caches"].facts
    # The short lengths of a quick run: attention is still small beside the weights.
    assert facts[f"{model}.no_cache.flops_per_token_exponent"] == pytest.approx(1, abs=0.2)
    assert facts[f"{model}.no_cache.flops_total_exponent"] == pytest.approx(2, abs=0.15)
    for arm in ("contiguous", "paged"):
        assert 0 < facts[f"{model}.{arm}.flops_per_token_exponent"] < 0.4
        assert facts[f"{model}.{arm}.flops_total_exponent"] == pytest.approx(1, abs=0.25)


def test_an_exponent_is_found_again():
    xs = [16.0, 32.0, 64.0, 128.0]
    assert exponent(xs, [3 * x**1.5 for x in xs]) == pytest.approx(1.5)
    assert summed([2.0, 4.0], [5.0, 5.0]) == [10.0, 20.0]


def test_variants_differ_in_attention_alone():
    shapes = list(variant_shapes(is_quick=True).values())
    assert len({(s.n_layers, s.hidden, s.intermediate, s.heads.n_heads) for s in shapes}) == 1
    mha, gqa, mqa, mla = (s.kv_bytes_per_token(2) for s in shapes)
    assert mha == 4 * gqa == 8 * mqa
    assert mqa < mla < mha


def test_a_memory_has_no_more_in_it_than_it_holds():
    for mix in fragmentation.MIXES:
        for way in fragmentation.WAYS:
            use = fragmentation.simulate_use(mix, way, 120)
            assert 0 <= use.external <= 1
            assert 0 < use.filled + use.internal + use.external < 1 + 1e-9
            assert use.filled > 0
            assert (use.external == 0) or way != fragmentation.PAGED


def test_blocks_waste_less_than_room_for_the_longest():
    for mix in fragmentation.MIXES:
        longest, paged = (
            fragmentation.simulate_use(mix, way, 200)
            for way in (fragmentation.RESERVED, fragmentation.PAGED)
        )
        assert paged.filled > longest.filled
        assert paged.internal < longest.internal


def test_what_survives_an_edit_is_what_stands_before_it():
    kept, last, middle, dropped, stamped = editing.cached_after(turn=32).values()
    assert kept == editing.SYSTEM + editing.TURNS * 32
    assert last == kept - 32
    assert middle == editing.SYSTEM + editing.TURNS // 2 * 32
    assert dropped == editing.SYSTEM
    assert stamped == 0


def test_a_shared_prefix_is_kept_once():
    own, prefix = sharing.OWN, sharing.PREFIX
    assert [sharing.used_tokens(n) for n in (1, 8)] == [prefix + own, prefix + 8 * own]


def test_placement_by_what_workers_hold_finds_most(found):
    facts = found["sharing"].facts
    assert facts["radix.reuse"] == max(facts[f"{name}.reuse"] for name in sharing.POLICIES)


def test_a_window_bounds_the_cache(found):
    facts = found["windows"].facts
    assert facts["last 10.bytes"] < facts["last 40.bytes"] < facts["all tokens.bytes"]


@pytest.mark.parametrize(
    ("value", "other", "words"),
    [
        (2.0, 1.0, "it takes 2 times what that takes"),
        (1.05, 1.0, "it takes as much as that (within 10%)"),
        (0.5, 1.0, "it takes 50 % of what that takes"),
    ],
)
def test_a_comparison_says_no_more_than_its_numbers(value, other, words):
    assert against("it", value, "that", other) == words


def test_numbers_have_three_digits_and_a_unit():
    assert [seconds(v) for v in (2.0, 0.01234, 4.5e-6)] == ["2 s", "12.3 ms", "4.5 us"]
    assert [size(v) for v in (512, 524288, 3 * 2**30)] == ["512 B", "512 KiB", "3 GiB"]


def test_what_cannot_be_measured_is_said(tmp_path):
    with pytest.raises(LabError, match="no experiment is called caching"):
        run_lab(LabSettings(only=("caching",)), _nothing)
    with pytest.raises(LabError, match=r"config\.json|is no"):
        run_lab(LabSettings((tmp_path,), is_quick=True), _nothing)


def test_an_engine_that_is_not_there_is_told_of_and_the_rest_goes_on(tmp_path):
    folder = write_tiny_model(tmp_path / "tiny", max_model_len=512)
    gone = str(tmp_path / "gone")
    report = run_lab(LabSettings((folder,), ("engine",), is_quick=True, vllm=gone), _nothing)
    (found,) = report.results
    assert [row[0] for row in found.tables[0].rows] == ["no cache", "our engine"]
    assert "vLLM did not answer" in found.text
    assert found.facts["our_engine.seconds_per_token"] > 0
