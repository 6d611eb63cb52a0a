"""The seam of tokenizers: what makes requests of a chat. Values and a protocol."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from radixroute.radix.ids import Tokens
from radixroute.request.chat import ChatMessage


@dataclass(frozen=True, slots=True, eq=False)
class AnsweredTurn:
    """What was asked for one answer."""

    answer: int  # place of the answer among the messages
    prompt: Tokens
    output_tokens: int


class PromptEncoder(Protocol):
    """A tokenizer, as logs of chats need one."""

    @property
    def remark(self) -> str:
        """What is to be known of its prompts; empty: nothing."""

    def turns(self, messages: Sequence[ChatMessage]) -> list[AnsweredTurn]:
        """One for each answer that something stands above. Raises `InvalidRequest`."""
