"""Chat messages and the model's chat template, rendered as `transformers` renders it.

Owns one compiled Jinja template, sandboxed: it comes with the model, so it may not reach anything
but its arguments. No clock: a template that prints today's date gets it from the caller or not at
all. Called by `Tokenizer`.
"""

import datetime
import io
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, overload

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from radixroute.request.errors import InvalidRequest
from radixroute.request.pacing import MESSAGES_A_TURN, Abandoned, Pause, empty, in_turns, no_pause

# What a template's own refusal may add to our message, in characters.
MAX_REASON_LEN = 200
# The longest public template has some 30,000 characters.
MAX_TEMPLATE_LEN = 1024 * 1024
# Of a chat: its own text may appear a few times over, and examples and rules around it.
MAX_MARKUP_LEN, MAX_REPEATS = 1024 * 1024, 8
MAX_MESSAGE_MARKUP_LEN = 256
# Loops over conversations are shorter; two nested ranges of the sandbox's 100,000 run for hours.
MAX_RANGE = 100_000
# Bits of a product or power; more is no number that a template prints.
_MAX_BITS = 4096
# What `strftime_now` prints when the caller gives no date: the one that Llama 3's own templates
# take where they find no clock. Doors give the day.
NO_DATE = datetime.date(2024, 7, 26)
# Templates print a role as it is: one with the markup of a turn in it would forge turns.
ROLES = ("system", "developer", "user", "assistant", "tool")


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a conversation."""

    role: str  # one of `ROLES`; the template decides which of them it takes
    content: str


class Conversation(Sequence[ChatMessage]):
    """Messages as two lists of text.

    Two hundred thousand objects that the garbage collector looks after make it look at everything
    there is, several times over, and nothing else runs meanwhile; strings it does not look after.
    """

    def __init__(self, messages: Iterable[ChatMessage] = ()) -> None:
        self._roles: list[str] = []
        self._contents: list[str] = []
        for message in messages:
            self._roles.append(message.role)
            self._contents.append(message.content)

    def __len__(self) -> int:
        return len(self._roles)

    @overload
    def __getitem__(self, at: int) -> ChatMessage: ...
    @overload
    def __getitem__(self, at: slice) -> "Conversation": ...
    def __getitem__(self, at: int | slice) -> "ChatMessage | Conversation":
        if isinstance(at, slice):
            return Conversation(map(ChatMessage, self._roles[at], self._contents[at]))
        return ChatMessage(self._roles[at], self._contents[at])

    def __iter__(self) -> Iterator[ChatMessage]:
        return map(ChatMessage, self._roles, self._contents)


class ChatTemplate:
    """One model's template with its special tokens. Immutable after construction."""

    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        self._special_tokens = dict(special_tokens)
        self._template: jinja2.Template | None = None
        self.problem = ""  # why no chat can be rendered; the model serves text and ids all the same
        try:
            if len(source) > MAX_TEMPLATE_LEN:
                raise jinja2.TemplateError(f"it has more than {MAX_TEMPLATE_LEN} characters")
            self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            self.problem = f"does not compile: {error.message} (line {error.lineno})"
        except Exception as error:  # noqa: BLE001  # what the compiler makes of it may not be Python
            self.problem = f"does not compile: {str(error)[:MAX_REASON_LEN]}"
        if self.problem:
            _log.warning("chats are refused: the model's chat template %s", self.problem)

    def render(
        self,
        messages: Sequence[ChatMessage],
        *,
        today: datetime.date | None = None,
        pause: Pause = no_pause,
    ) -> str:
        """The conversation as the model reads it, ending where its answer begins.

        `today` is what `strftime_now` prints, `NO_DATE` without it; its time is midnight. A date in
        the prompt ends every shared prefix at midnight, and is what engines print. `pause` is
        called now and then in a long conversation.
        """
        if self._template is None:
            raise InvalidRequest(
                "messages",
                f"cannot be rendered: the model's chat template {self.problem}; "
                "send text or token_ids",
            )
        if not messages:
            raise InvalidRequest("messages", "is empty; give at least one message")
        turns = [_turn(one) for one in in_turns(messages, MESSAGES_A_TURN, pause)]
        values: dict[str, Any] = {
            **self._special_tokens,
            "messages": turns,
            "tools": None,
            "documents": None,
            "add_generation_prompt": True,
            "strftime_now": _strftime_of(today or NO_DATE),
            "range": _counted_range(),
        }
        n_chars = sum(len(one.content) for one in in_turns(messages, MESSAGES_A_TURN, pause))
        # A message without content may have markup, too.
        markup = max(MAX_MARKUP_LEN, MAX_MESSAGE_MARKUP_LEN * len(turns))
        pieces = in_turns(self._template.generate(values), MESSAGES_A_TURN, pause)
        try:
            return _joined(pieces, markup + MAX_REPEATS * n_chars)
        except Abandoned:
            raise
        except Exception as error:  # noqa: BLE001  # a stranger's program: any of its errors
            raise InvalidRequest("messages", _reason(error, messages)) from None
        finally:
            empty(turns, pause)


def _turn(message: ChatMessage) -> dict[str, str]:
    if message.role not in ROLES:
        raise InvalidRequest("messages", f"has a role that is none of {', '.join(ROLES)}")
    return {"role": message.role, "content": message.content}


class _Sandbox(ImmutableSandboxedEnvironment):
    """That of `transformers`, but for products and powers that would fill the memory."""

    intercepted_binops = frozenset(("*", "**"))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        size = _bits(left) + _bits(right) if operator == "*" else _bits(left) * abs(right)
        sized = [one for one in (left, right) if isinstance(one, str | list | tuple)]
        if sized and len(sized[0]) * (right if sized[0] is left else left) > MAX_MARKUP_LEN:
            raise jinja2.TemplateError("it repeats a text too often")
        if not sized and size > _MAX_BITS:
            raise jinja2.TemplateError("it computes too large a number")
        return super().call_binop(context, operator, left, right)


class _Generation(Extension):
    """`{% generation %}` marks the assistant's words for training; to a reader it is nothing."""

    tags = {"generation"}  # noqa: RUF012  # as Jinja declares it

    def parse(self, parser: Parser) -> CallBlock:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        block = CallBlock(self.call_method("_content"), [], [], body)
        block.set_lineno(line)
        return block

    def _content(self, caller: Macro) -> str:
        text: str = caller()
        return text


class _SafeNamespace(Namespace):
    """As in `transformers`: no attribute that could lead into the interpreter."""

    def __init__(*args: Any, **values: Any) -> None:
        self, *rest = args  # `namespace(self=1)` is legal
        attributes = dict(*rest, **values)
        if any(str(name).startswith("_") for name in attributes):
            raise jinja2.TemplateError("a namespace takes no name with an underscore in front")
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise jinja2.TemplateError("a namespace takes no name with an underscore in front")
        super().__setitem__(name, value)


def _environment() -> _Sandbox:
    """The filters, tags and functions that `transformers` gives to templates."""
    environment = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["namespace"] = _SafeNamespace
    return environment


def _joined(pieces: Iterable[str], allowed: int) -> str:
    text, length = io.StringIO(), 0  # a list of all pieces takes long to free
    for piece in pieces:
        length += len(piece)
        if length > allowed:
            raise jinja2.TemplateError("it makes far more text than the messages have")
        text.write(piece)
    return text.getvalue()


def _counted_range() -> Callable[..., range]:
    """`range`, until all of one rendering together are too long."""
    left = MAX_RANGE

    def counted(*bounds: int) -> range:
        nonlocal left
        numbers = range(*bounds)
        left -= len(numbers)
        if left < 0:
            raise jinja2.TemplateError(f"it counts through more than {MAX_RANGE} numbers")
        return numbers

    return counted


def _bits(value: object) -> int:
    return value.bit_length() if isinstance(value, int) else 64


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


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # As in transformers: Jinja's own filter escapes HTML, which models were not trained on.
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
