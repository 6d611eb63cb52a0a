"""Stop strings: found however the text is cut, and nothing held that could not become one."""

from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.request.stopping import StopStrings

quick = settings(max_examples=300, deadline=None, derandomize=True)
texts = st.text(alphabet="ab\n", max_size=20)
stops = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=5), max_size=4).map(tuple)


def brute_force(text, stop):
    """Reads character by character: the first end wins, the longest of those that end there."""
    for end in range(len(text) + 1):
        found = [s for s in stop if text[:end].endswith(s)]
        if found:
            longest = max(found, key=len)
            return text[: end - len(longest)], longest
    return text, None


def pieces_of(draw, text):
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@quick
@given(st.data(), texts, stops)
def test_any_chunking_finds_what_brute_force_finds(data, text, stop):
    watch = StopStrings(stop)
    sent, matched = "", None
    for piece in pieces_of(data.draw, text):
        out, found = watch.push(piece)
        assert matched is None or out == ""
        sent, matched = sent + out, matched or found
    sent += watch.flush()
    assert (sent, matched) == brute_force(text, stop)


@quick
@given(texts, stops)
def test_only_what_may_still_become_a_stop_string_is_held(text, stop):
    watch = StopStrings(stop)
    if watch.push(text).matched is None:
        held = text[len(text) - watch.held_len :]
        ends = [text[start:] for start in range(len(text))]
        possible = [
            end for end in ends if any(len(end) < len(s) and s.startswith(end) for s in stop)
        ]
        assert held == max(possible, key=len, default="")


def test_without_stop_strings_text_passes_at_once():
    assert StopStrings(()).push("anything") == ("anything", None)


def test_the_text_ends_before_the_stop_string():
    watch = StopStrings(("\nUser:",))
    assert watch.push("Hi.\nUs") == ("Hi.", None)
    assert watch.push("er: next") == ("", "\nUser:")
    assert watch.push("more") == ("", None)
    assert watch.flush() == ""


def test_a_false_start_is_given_back():
    watch = StopStrings(("STOP",))
    assert watch.push("ST") == ("", None)
    assert watch.push("art") == ("STart", None)
    assert watch.push("STO") == ("", None)
    assert watch.flush() == "STO"
