"""Control tokens: those that begin and end turns, and text that only looks like them.

A chat's text is made by the model's template around what people wrote. The template's markers must
become control tokens; the same characters in a message must not, or its author forges turns. Which
ones the template wrote is found by rendering the messages once more with the outer characters of
every marker replaced: what still reads as a marker is the template's. Owns no state but tables made
once, and a second tokenizer over the same vocabulary that reads markers as plain text. Called by
`Tokenizer`; safe for threads.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tokenizers

from radixroute.radix.ids import Tokens
from radixroute.request.chat import ChatMessage, Conversation
from radixroute.request.encoding import PIECE_CHARS, ids_of
from radixroute.request.errors import InvalidRequest
from radixroute.request.pacing import IDS_A_TURN, MESSAGES_A_TURN, Pause, in_turns, no_pause

# Characters nobody assigned a meaning to; the second range for text that has some of the first.
_STAND_INS = (0xF0000, 0x100000)
_RANGE_LEN = 0x1000
# On both sides of a token where a text may be cut; what it is tried with at most.
_NEIGHBOURS = (("a", "b"), ("two words ", " hello"), ("\n", "\n  x"), ("", ""))
_MOST_TRIED = 16


class Part(NamedTuple):
    """A stretch of a rendered chat: one of the template's control tokens, or text."""

    token_id: int | None  # None: text
    text: str


@dataclass(frozen=True, slots=True)
class Guard:
    """Messages whose characters cannot make a control token, and how to read them again."""

    messages: Sequence[ChatMessage]
    stand_ins: tuple[tuple[str, str], ...]  # (character, what stands for it)

    def restored(self, text: str) -> str:
        for char, stand_in in self.stand_ins:
            text = text.replace(stand_in, char)
        return text


class ControlTokens:
    """The control tokens of one tokenizer."""

    def __init__(self, backend: tokenizers.Tokenizer, named: Collection[str]) -> None:
        """`named` are control tokens by the model's configuration, whatever their own flag says."""
        added = backend.get_added_tokens_decoder()
        by_text = {
            token.content: (token_id, token)
            for token_id, token in added.items()
            if token.content and (token.special or token.content in named)
        }
        self.ids = frozenset(token_id for token_id, _ in by_text.values())
        self._id_by_text = {text: token_id for text, (token_id, _) in by_text.items()}
        self._ends = sorted({char for text in by_text for char in (text[0], text[-1])})
        # The longest first: one token may begin another. White space goes where the token takes it.
        texts = sorted(by_text, key=lambda text: -len(text))
        self._pattern = re.compile(
            "|".join(_pattern_of(by_text[text][1]) for text in texts) or "(?!)"
        )
        starts = _sure_starts(added)
        if not _begin_anew(backend, starts[:_MOST_TRIED]):
            starts = []
        self._start = re.compile("|".join(map(re.escape, starts))) if starts else None
        self._in_order = np.array(sorted(self.ids), np.uint32)
        self._literal = _literal_twin(backend, self.ids)

    @property
    def has_cuts(self) -> bool:
        """There are tokens before which a text may be cut."""
        return self._start is not None

    def among(self, tokens: Tokens, pause: Pause = no_pause) -> list[int]:
        """Those of them that are control tokens, in order."""
        found: list[int] = []
        for at in range(0, len(tokens), IDS_A_TURN):
            if at:
                pause()
            turn = tokens[at : at + IDS_A_TURN]
            found += turn[np.isin(turn, self._in_order)].tolist()
        return found

    def guard(self, messages: Sequence[ChatMessage], pause: Pause = no_pause) -> Guard | None:
        """None when no message has a character that a control token begins or ends with."""
        contents = [one.content for one in in_turns(messages, MESSAGES_A_TURN, pause)]
        in_parts = in_turns(contents, MESSAGES_A_TURN, pause)
        if not any(char in text for text in in_parts for char in self._ends):
            return None
        base = _unused(contents, pause)
        stand_ins = tuple((char, chr(base + i)) for i, char in enumerate(self._ends))
        return Guard(
            Conversation(
                ChatMessage(one.role, _replaced(one.content, stand_ins))
                for one in in_turns(messages, MESSAGES_A_TURN, pause)
            ),
            stand_ins,
        )

    def parts(self, text: str) -> Iterator[Part]:
        """The text in order, cut at every control token in it."""
        at = 0
        for match in self._pattern.finditer(text):
            yield Part(None, text[at : match.start()])
            found = match[0]
            # What a token takes of the white space around it is no part of its name.
            token_id = self._id_by_text.get(found, self._id_by_text.get(found.strip()))
            yield Part(token_id, found)
            at = match.end()
        yield Part(None, text[at:])

    def pieces(self, text: str, n_chars: int = PIECE_CHARS) -> Iterator[str]:
        """The text cut before control tokens, at least `n_chars` (1 or more) a piece.

        Encoded one by one they give the ids of the whole: a tokenizer splits at these tokens first,
        and goes on with what is between them as if it stood alone.
        """
        at = 0
        while self._start is not None and len(text) - at > n_chars:
            match = self._start.search(text, at + n_chars)
            if match is None:
                break
            yield text[at : match.start()]
            at = match.start()
        yield text[at:]

    def encode_literally(self, text: str) -> list[int]:
        """Ids of text in which nothing is a control token."""
        return ids_of(self._literal, text)


def _sure_starts(added: Mapping[int, tokenizers.AddedToken]) -> list[str]:
    """Texts of tokens that begin wherever they stand, whatever is before them."""
    texts = [token.content for token in added.values() if token.content]
    # One before it may take the white space behind it, or ask whether a word goes on.
    asks = any(token.single_word for token in added.values())
    return [
        token.content
        for token in added.values()
        if token.content
        and not (token.normalized or token.lstrip or token.single_word)
        and not token.content[0].isspace()
        and not (asks and re.match(r"\w", token.content))
        # None may reach into it from the left, nor be a longer one with ways of its own.
        and not any(token.content[0] in text[1:] for text in texts)
        and not any(text != token.content and text.startswith(token.content) for text in texts)
    ]


def _begin_anew(backend: tokenizers.Tokenizer, starts: Sequence[str]) -> bool:
    """Whether cutting before these changes no ids: the rules above, put to the test."""
    for text in starts:
        for left, right in _NEIGHBOURS:
            whole = ids_of(backend, left + text + right + text)
            if (
                ids_of(backend, left) + ids_of(backend, text + right) + ids_of(backend, text)
                != whole
            ):
                return False
    return True


def _pattern_of(token: tokenizers.AddedToken) -> str:
    before, after = r"\s*" if token.lstrip else "", r"\s*" if token.rstrip else ""
    return before + re.escape(token.content) + after


def _replaced(text: str, stand_ins: Sequence[tuple[str, str]]) -> str:
    for char, stand_in in stand_ins:
        text = text.replace(char, stand_in)
    return text


def _unused(contents: Sequence[str], pause: Pause) -> int:
    """Where a range of characters begins that no message has any of."""
    for base in _STAND_INS:
        some = re.compile(f"[{chr(base)}-{chr(base + _RANGE_LEN)}]")
        in_parts = in_turns(contents, MESSAGES_A_TURN, pause)
        if not any(some.search(text) for text in in_parts if not text.isascii()):
            return base
    raise InvalidRequest(
        "messages", "have private characters of both planes beside characters of control tokens"
    )


def _literal_twin(backend: tokenizers.Tokenizer, control: Collection[int]) -> tokenizers.Tokenizer:
    """The same model and steps (shared, not copied), blind to control tokens."""
    twin = tokenizers.Tokenizer(backend.model)
    if backend.normalizer is not None:
        twin.normalizer = backend.normalizer
    if backend.pre_tokenizer is not None:
        twin.pre_tokenizer = backend.pre_tokenizer
    for token_id, token in sorted(backend.get_added_tokens_decoder().items()):
        if token_id in control:
            twin.add_special_tokens([token])
        else:
            twin.add_tokens([token])
    if twin.get_added_tokens_decoder().keys() != backend.get_added_tokens_decoder().keys():
        # Ids with gaps between them: only the whole state keeps them.
        twin = tokenizers.Tokenizer.from_str(backend.to_str())
    twin.encode_special_tokens = True
    return twin
