"""Speed: learned from steps, sane before the first, and stable under noise."""

import random
from itertools import pairwise

import pytest

from radixroute.radix.ids import WorkerId
from radixroute.router.workers.columns import WorkerColumns
from radixroute.router.workers.speed import PRIOR_MS_PER_PREFILL_TOKEN, Speed, SpeedBook

A, B, C = WorkerId("a"), WorkerId("b"), WorkerId("c")
NS_PER_S = 1_000_000_000


def new_book() -> SpeedBook:
    columns = WorkerColumns()
    book = SpeedBook(columns)
    for worker_id in (A, B, C):
        columns.give(worker_id)
    return book


class Meter:
    """One worker of a book, a second between its steps."""

    def __init__(self, book: SpeedBook | None = None, worker_id: WorkerId = A) -> None:
        self.book, self.worker_id, self.now_ns = book or new_book(), worker_id, 0

    def observe(self, **step) -> None:
        self.now_ns += NS_PER_S // 10
        self.book.observe(self.worker_id, now_ns=self.now_ns, **step)
        self.book.check()

    @property
    def speed(self) -> Speed:
        return self.book.speed(self.worker_id)


def approx(speed: Speed) -> object:
    return pytest.approx(speed, rel=1e-2)


def test_without_steps_the_prior_stands():
    assert new_book().speed(A) == approx(Speed())


@pytest.mark.parametrize("truth", [Speed(4.0, 0.05, 5.0, 0.2), Speed(30.0, 2.0, 30.0, 3.0)])
def test_a_meter_finds_the_workers_true_speed_under_noise(truth):
    rng, meter = random.Random(1), Meter()
    for _ in range(400):
        decode = rng.randint(1, 16)
        prefill = rng.choice([0, 0, 0, rng.randint(1, 512)])
        exact = truth.step_ms(decode)
        if prefill:
            exact += truth.prefill_base_ms + truth.ms_per_prefill_token * prefill
        meter.observe(
            step_ms=exact * rng.uniform(0.95, 1.05), prefill_tokens=prefill, decode_tokens=decode
        )
    assert meter.speed.ms_per_prefill_token == pytest.approx(truth.ms_per_prefill_token, rel=0.15)
    assert meter.speed.step_ms(8) == pytest.approx(truth.step_ms(8), rel=0.1)


def test_one_long_prompt_is_enough_to_leave_the_prior():
    meter = Meter()
    meter.observe(step_ms=10 + 1024 * 0.01, prefill_tokens=1024, decode_tokens=0)
    assert meter.speed.ms_per_prefill_token < PRIOR_MS_PER_PREFILL_TOKEN / 5


def test_a_worker_that_slows_down_is_believed_soon():
    meter = Meter()
    for _ in range(50):
        meter.observe(step_ms=10 + 51.2, prefill_tokens=512, decode_tokens=0)
    for _ in range(20):
        meter.observe(step_ms=10 + 512, prefill_tokens=512, decode_tokens=0)
    assert meter.speed.prefill_base_ms + 512 * meter.speed.ms_per_prefill_token > 0.75 * 522


def test_estimates_never_go_below_zero():
    meter = Meter()
    for decode in range(1, 40):
        meter.observe(step_ms=40.0 / decode, prefill_tokens=0, decode_tokens=decode)
        meter.observe(step_ms=0.001, prefill_tokens=100, decode_tokens=decode)
    speed = meter.speed
    assert speed.ms_per_prefill_token > 0
    assert speed.step_base_ms >= 0
    assert speed.ms_per_decode >= 0


def test_chunks_of_one_size_still_cost_by_the_token():
    meter = Meter()
    for _ in range(2000):
        meter.observe(step_ms=100.0, prefill_tokens=512, decode_tokens=0)
    assert 0.15 < meter.speed.ms_per_prefill_token < 100 / 512


def test_empty_steps_teach_nothing():
    meter = Meter()
    meter.observe(step_ms=0.0, prefill_tokens=10, decode_tokens=0)
    meter.observe(step_ms=5.0, prefill_tokens=0, decode_tokens=0)
    assert meter.speed == approx(Speed())


def prefill_ms(speed: Speed, tokens: int) -> float:
    return speed.prefill_base_ms + tokens * speed.ms_per_prefill_token


def test_who_saw_only_short_prompts_is_thought_to_be_like_the_fleet_on_long_ones():
    """Its own steps leave 0.135 ms a token where 0.016 is true: it was never asked again (R17)."""
    book = new_book()
    for tokens in (2000, 9000, 16000, 40, 5000, 12000) * 4:
        Meter(book, A).observe(
            step_ms=16.5 + 0.016 * tokens, prefill_tokens=tokens, decode_tokens=0
        )
    for tokens in (20, 40, 64):
        Meter(book, B).observe(
            step_ms=16.5 + 0.016 * tokens, prefill_tokens=tokens, decode_tokens=0
        )
    assert prefill_ms(book.speed(B), 9000) == pytest.approx(16.5 + 0.016 * 9000, rel=0.1)


def test_what_the_fleet_learns_reaches_workers_that_are_not_asked():
    book = new_book()
    for tokens in (30, 50):
        Meter(book, B).observe(step_ms=17.0, prefill_tokens=tokens, decode_tokens=0)
    before = prefill_ms(book.speed(B), 9000)
    for tokens in (2000, 9000, 16000, 40) * 6:
        Meter(book, A).observe(
            step_ms=16.5 + 0.016 * tokens, prefill_tokens=tokens, decode_tokens=0
        )
    assert before > 1.5 * prefill_ms(book.speed(B), 9000)
    assert prefill_ms(book.speed(B), 9000) == pytest.approx(16.5 + 0.016 * 9000, rel=0.1)


def test_a_slow_worker_is_known_as_such_and_believed_again_after_some_minutes():
    columns = WorkerColumns()
    book = SpeedBook(columns)
    names = [WorkerId(f"w{n}") for n in range(4)]
    for name in names:
        columns.give(name)
    now_ns = 0

    def second(*, steps_of: list[WorkerId]) -> None:
        nonlocal now_ns
        now_ns += NS_PER_S
        for name in steps_of:
            tokens = 500 + 700 * (now_ns // NS_PER_S % 5)
            step_ms = (10.0 + 0.02 * tokens) * (2.0 if name == names[0] else 1.0)
            book.observe(
                name, step_ms=step_ms, prefill_tokens=tokens, decode_tokens=0, now_ns=now_ns
            )

    for _ in range(60):
        second(steps_of=names)
    slow, other = book.speed(names[0]), book.speed(names[1])
    assert prefill_ms(slow, 2000) == pytest.approx(2 * prefill_ms(other, 2000), rel=0.15)
    for _ in range(600):
        second(steps_of=names[1:])  # nobody asks the slow one
    assert prefill_ms(book.speed(names[0]), 2000) < 1.1 * prefill_ms(book.speed(names[1]), 2000)


def some_tokens(n: int) -> int:
    return 1200 + 400 * (n % 5)


def a_slow_one_among_four(times: float = 3.0) -> tuple[SpeedBook, list[WorkerId], int]:
    """All were asked each second for a minute; the first takes so many times longer."""
    columns = WorkerColumns()
    book, names = SpeedBook(columns), [WorkerId(f"w{n}") for n in range(4)]
    for name in names:
        columns.give(name)
    for second in range(60):
        step(book, names, second, {names[0]: times})
    return book, names, 60


def step(
    book: SpeedBook, names: list[WorkerId], second: int, slowness: dict[WorkerId, float]
) -> None:
    for name in names:
        tokens = some_tokens(second)
        step_ms = (10.0 + 0.02 * tokens) * slowness.get(name, 1.0)
        now_ns = second * NS_PER_S
        book.observe(name, step_ms=step_ms, prefill_tokens=tokens, decode_tokens=0, now_ns=now_ns)
        book.check()


def slower(book: SpeedBook, names: list[WorkerId]) -> float:
    """How many times slower than the second one the first is thought to be."""
    return prefill_ms(book.speed(names[0]), 2000) / prefill_ms(book.speed(names[1]), 2000)


@pytest.mark.parametrize(("before", "after"), [(3.0, 1.0), (1.0, 3.0), (2.0, 4.0)])
def test_two_steps_in_a_row_show_that_a_worker_has_another_speed(before, after):
    book, names, second = a_slow_one_among_four(before)
    step(book, names, second, {names[0]: after})
    assert slower(book, names) == pytest.approx(before, rel=0.25), "one may be chance"
    step(book, names, second + 1, {names[0]: after})
    assert slower(book, names) == pytest.approx(after, rel=0.25)


def test_steps_that_are_odd_to_either_side_show_nothing():
    book, names, second = a_slow_one_among_four(1.0)
    for times in (2.0, 0.4, 2.0, 0.4, 2.0, 0.4):
        second += 1
        step(book, names, second, {names[0]: times})
    assert slower(book, names) == pytest.approx(1.0, rel=0.4)


def test_short_prompts_say_little_of_a_speed():
    book, names, second = a_slow_one_among_four(1.0)
    for later in (1, 2):
        now_ns = (second + later) * NS_PER_S
        book.observe(names[0], step_ms=16.5, prefill_tokens=50, decode_tokens=0, now_ns=now_ns)
    assert slower(book, names) == pytest.approx(1.0, rel=0.03)


def test_a_slow_worker_that_nobody_asks_is_doubted_within_a_minute_and_one_step_settles_it():
    book, names, second = a_slow_one_among_four()
    assert slower(book, names) > 2.5
    thought = []
    for _ in range(55):
        second += 1
        step(book, names[1:], second, {})
        thought.append(slower(book, names))
    assert thought[18] > 2.4, "not before some time has passed"
    assert all(after <= before + 0.02 for before, after in pairwise(thought))
    assert thought[-1] < 1.0, "it is faster than the others before the minute is over"
    step(book, names, second + 1, {names[0]: 3.0})
    assert slower(book, names) > 2.4, "it is as slow as it was"


def test_a_worker_that_is_fast_or_a_little_slow_is_not_doubted():
    for times in (0.5, 1.15):
        book, names, second = a_slow_one_among_four(times)
        before = slower(book, names)
        for _ in range(60):
            second += 1
            step(book, names[1:], second, {})
        assert slower(book, names) == pytest.approx(before, rel=0.15)


def test_an_unknown_worker_is_thought_to_be_like_the_others():
    book = new_book()
    for _ in range(64):  # a multiple of eight: all were solved just now
        book.observe(A, step_ms=100.0, prefill_tokens=1000, decode_tokens=0, now_ns=1)
    assert book.speed(B) == approx(book.speed(C))
    assert prefill_ms(book.speed(B), 1000) == pytest.approx(100.0, rel=0.02)


def test_columns_follow_workers_that_come_and_go():
    columns, rng = WorkerColumns(), random.Random(4)
    book = SpeedBook(columns)
    listed: list[WorkerId] = []
    for n in range(300):
        if rng.random() < 0.1:
            listed.append(WorkerId(f"w{n}"))
            columns.give(listed[-1])
            fresh = book.speed(listed[-1])
            assert fresh == approx(book.speed(listed[-1])), "nobody knows anything of it"
        elif listed and rng.random() < 0.1:
            gone = listed.pop(rng.randrange(len(listed)))
            book.forget(gone)
            columns.take_back(gone)
        elif listed:
            worker_id, step_ms = rng.choice(listed), rng.uniform(1, 200)
            prefill = 64 * (n % 2)
            book.observe(
                worker_id, step_ms=step_ms, prefill_tokens=prefill, decode_tokens=2, now_ns=n
            )
        taken = book.now()[:, [columns.of(w) for w in listed]]
        wanted = [book.speed(w) for w in listed]
        assert taken[:-1].T.ravel().tolist() == [x for speed in wanted for x in speed]
        book.check()
    assert columns.of(listed[-1]) < 30, "columns of workers that left are used again"


def test_who_leaves_takes_what_it_taught_about_itself_along():
    columns = WorkerColumns()
    book = SpeedBook(columns)
    for name in (A, B):
        columns.give(name)
    for _ in range(40):
        book.observe(A, step_ms=500.0, prefill_tokens=1000, decode_tokens=0, now_ns=1)
        book.observe(B, step_ms=50.0, prefill_tokens=1000, decode_tokens=0, now_ns=1)
    book.forget(A)
    columns.take_back(A)
    columns.give(C)
    assert columns.of(C) == 0, "it has the column of the slow one"
    assert prefill_ms(book.speed(C), 1000) < 350.0


def test_answers_are_expected_to_be_as_long_as_the_last_ones():
    book = new_book()
    for _ in range(300):
        book.answered(10)
    assert book.expected_output(256) == pytest.approx(10, abs=1)
    assert book.expected_output(4) == 4
