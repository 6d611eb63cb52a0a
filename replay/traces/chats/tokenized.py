"""Requests of a chat by a model's tokenizer: prompts as the model's chat template writes them.

Every prompt is tokenised as an engine would see it; pieces that the chat's earlier prompts had are
remembered, so that a chat costs what its text costs, and not its square.
"""

import hashlib
from collections.abc import Sequence

from radixroute.radix.ids import Tokens
from radixroute.replay.traces.chats.encoder import AnsweredTurn
from radixroute.request.chat import ChatMessage
from radixroute.request.errors import InvalidRequest
from radixroute.request.tokenizer import Tokenizer

_ASSISTANT = "assistant"
_NAME_BYTES = 16


class TokenizedChats:
    """One tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._n_around = len(tokenizer.encode(""))  # put around any text; no answer has them
        self._has_template = _has_template(tokenizer)

    @property
    def remark(self) -> str:
        if self._has_template:
            return ""
        return "the tokenizer has no chat template: messages stand below each other as plain text"

    def turns(self, messages: Sequence[ChatMessage]) -> list[AnsweredTurn]:
        """Raises `InvalidRequest` for what the chat template does not take."""
        known = _Pieces()
        return [
            AnsweredTurn(
                place,
                self._prompt(messages[:place], known),
                max(1, len(self._tokenizer.encode(message.content)) - self._n_around),
            )
            for place, message in enumerate(messages)
            if message.role == _ASSISTANT and place
        ]

    def _prompt(self, messages: Sequence[ChatMessage], known: "_Pieces") -> Tokens:
        known.begin()
        if self._has_template:
            return self._tokenizer.encode_chat(messages, recall=known)
        text = "".join(f"{one.role}: {one.content}\n" for one in messages)
        return self._tokenizer.encode(f"{text}{_ASSISTANT}:", recall=known)


class _Pieces:
    """The pieces of one chat's prompts, each named by all that stands before it, too."""

    def __init__(self) -> None:
        self._packed: dict[bytes, bytes] = {}
        self._name = b""

    def begin(self) -> None:
        """A prompt, from its first piece on."""
        self._name = b""

    def next(self, piece: str) -> tuple[bytes, bytes | None]:
        """The name of the next piece, and its ids if they are known."""
        self._name = hashlib.blake2b(
            self._name + piece.encode("utf-8", "surrogatepass"), digest_size=_NAME_BYTES
        ).digest()
        return self._name, self._packed.get(self._name)

    def learn(self, name: bytes, packed: bytes) -> None:
        """The ids of one that was not known."""
        self._packed[name] = packed


def _has_template(tokenizer: Tokenizer) -> bool:
    try:
        tokenizer.encode_chat([ChatMessage("user", "a")])
    except InvalidRequest:
        return False
    return True
