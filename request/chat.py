"""Chat messages and the model's chat template, rendered as `transformers` renders it.

Owns one compiled Jinja template, sandboxed: it comes with the model, so it may not reach anything
but its arguments. No clock: a template that prints today's date gets it from the caller or not at
all. Called by `Tokenizer`.
"""

import datetime
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from radixroute.request.errors import InvalidRequest, TokenizerError

# What a template's own refusal may add to our message, in characters.
MAX_REASON_LEN = 200
# Templates print a role as it is: one with the markup of a turn in it would forge turns.
ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a conversation."""

    role: str  # one of `ROLES`; the template decides which of them it takes
    content: str


class ChatTemplate:
    """One model's template with its special tokens. Immutable after construction."""

    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise TokenizerError(
                f"the chat template does not compile: {error.message} (line {error.lineno})"
            ) from error
        self._special_tokens = dict(special_tokens)

    def render(self, messages: Sequence[ChatMessage], *, today: datetime.date | None = None) -> str:
        """The conversation as the model reads it, ending where its answer begins.

        `today` becomes `strftime_now`; without it a template that asks for a date takes its own
        fixed one. A date in the prompt ends every shared prefix at midnight: pass one on purpose.
        """
        if not messages:
            raise InvalidRequest("messages", "is empty; give at least one message")
        for message in messages:
            if message.role not in ROLES:
                raise InvalidRequest("messages", f"has a role that is none of {', '.join(ROLES)}")
        values: dict[str, Any] = dict(self._special_tokens)
        if today is not None:
            values["strftime_now"] = _strftime_of(today)
        try:
            return self._template.render(
                messages=[{"role": one.role, "content": one.content} for one in messages],
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **values,
            )
        except (jinja2.TemplateError, TypeError, ValueError, LookupError) as error:
            raise InvalidRequest("messages", _reason(error, messages)) from None


def _reason(error: Exception, messages: Sequence[ChatMessage]) -> str:
    """The template's own words, unless they quote the conversation."""
    text = str(error)[:MAX_REASON_LEN]
    if any(one.content and one.content[:MAX_REASON_LEN] in text for one in messages):
        text = type(error).__name__
    return f"the model's chat template refuses these messages: {text}; change roles or their order"


def _refuse(message: str) -> NoReturn:
    """What templates call `raise_exception`."""
    raise jinja2.TemplateError(message)


def _strftime_of(today: datetime.date) -> Callable[[str], str]:
    def strftime_now(form: str) -> str:
        return today.strftime(form)

    return strftime_now


def _to_json(value: object, ensure_ascii: bool = False, indent: int | None = None) -> str:
    # As in transformers: Jinja's own filter escapes HTML, which models were not trained on.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)
