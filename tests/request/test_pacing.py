"""Long prompts beside a loop: the interpreter's lock is let go of, and turns are short."""

import sys
import threading

import pytest

from radixroute.request.chat import ChatMessage, ChatTemplate
from radixroute.request.errors import InvalidRequest
from radixroute.request.pacing import IDS_A_TURN, MESSAGES_A_TURN, in_turns
from tests.request import samples


class Ticker:
    """A thread that only gets on while somebody lets go of the interpreter."""

    def __init__(self):
        self.n = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._over.wait(0.0005):
            self.n += 1

    def __enter__(self):
        self._interval = sys.getswitchinterval()
        self._thread.start()
        sys.setswitchinterval(1000.0)  # nobody is asked to let go
        return self

    def __exit__(self, *_):
        sys.setswitchinterval(self._interval)
        self._over.set()
        self._thread.join()


def test_other_threads_run_while_a_text_is_tokenised():
    tokenizer, text = samples.byte_level(), "the cat sat on the mat, hello world " * 4000
    seen = []
    with Ticker() as ticker:
        before = ticker.n
        tokenizer.encode(text, check=lambda n_tokens: seen.append(ticker.n))
    assert seen[0] - before >= 5


def test_batches_of_one_give_the_ids_that_single_texts_give():
    for tokenizer in (samples.byte_level(), samples.sentence_piece()):
        for text in ("", "hello world", " two words<|im_end|> ", "Grüße 東京 \n\n" * 3):
            ids = tokenizer._backend.encode(text, add_special_tokens=False).ids
            bos = [1] if tokenizer._adds_bos else []
            assert tokenizer.encode(text).tolist() == [*bos, *ids]


def test_ids_are_unpacked_in_turns_and_keep_their_order():
    tokenizer, text, pauses = samples.byte_level(), "the cat 東京 1 " * 5000, []
    whole = tokenizer._backend.encode(text).ids
    tokens = tokenizer.encode(text, pause=lambda: pauses.append(1))
    assert tokens.tolist() == whole
    assert len(pauses) > len(whole) / IDS_A_TURN


def test_a_length_is_checked_before_ids_are_unpacked():
    pauses = []

    def refuse(n_tokens):
        raise InvalidRequest("prompt", f"has {n_tokens} tokens")

    with pytest.raises(InvalidRequest, match=r"has \d+ tokens"):
        samples.byte_level().encode("hello " * 20_000, check=refuse, pause=lambda: pauses.append(1))
    assert len(pauses) == 1  # after the tokenizer itself


def test_a_chat_is_read_and_rendered_in_turns():
    """Between two turns of the loop at most so many messages are converted, and pieces made."""
    worst, in_turn = [0], [0]

    def messages(n):
        for number in range(n):
            in_turn[0] += 1
            worst[0] = max(worst[0], in_turn[0])
            yield ChatMessage("user", f"{number}")

    pauses = []

    def pause():
        in_turn[0] = 0
        pauses.append(1)

    template = ChatTemplate(samples.TEMPLATE, {})
    n = 10 * MESSAGES_A_TURN
    text = template.render(messages(n), pause=pause)
    assert text == template.render([ChatMessage("user", f"{i}") for i in range(n)])
    assert worst[0] == MESSAGES_A_TURN
    assert len(pauses) >= 2 * n / MESSAGES_A_TURN  # once as messages, once as text


def test_a_pause_may_end_the_work():
    seen = list[object]()

    def give_up():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        seen.extend(in_turns(range(100), 7, give_up))
    assert seen == list(range(7))
