"""The command `submit`: a prompt in, its answers streamed out, then where they ran and their cost.

Owns what a prompt and its sampling may look like on a command line.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radixroute.cli.answers import AnswersShown
from radixroute.cli.context import config_for
from radixroute.cli.policies import NamesPolicies
from radixroute.cli.router_address import NameOption, RouterOption, find_router
from radixroute.errors import BadInput

if TYPE_CHECKING:
    from radixroute.answer import Prompt
    from radixroute.request.chat import ChatMessage

STDIN = "-"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(cls=NamesPolicies)(submit)


def submit(  # noqa: PLR0913 - every parameter is an option of the command line
    ctx: typer.Context,
    prompt: Annotated[
        str | None, typer.Argument(help="The prompt; without it, or with -, stdin is read.")
    ] = None,
    *,
    messages: Annotated[
        Path | None,
        typer.Option(help='A conversation instead: JSON, [{"role": "user", "content": "..."}].'),
    ] = None,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw",
            help="Send the text as it is. Default: as one message of a user, through the model's "
            "chat template.",
        ),
    ] = False,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens to generate at most.")] = None,
    min_tokens: Annotated[
        int | None, typer.Option(help="Tokens before a stop may end the answer.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Probability mass in (0, 1].")] = None,
    top_k: Annotated[int | None, typer.Option(help="Most likely tokens to keep; 0 is off.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same answer.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="Text that ends the answer; may be repeated.")
    ] = None,
    presence_penalty: Annotated[
        float | None, typer.Option(help="Off the logits of tokens in the answer so far, -2 to 2.")
    ] = None,
    frequency_penalty: Annotated[
        float | None, typer.Option(help="The same, times how often they are in it, -2 to 2.")
    ] = None,
    repetition_penalty: Annotated[
        float | None,
        typer.Option(help="Scales logits of tokens in prompt or answer down; 1 is off, up to 2."),
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(help="Leaves out what is less likely than this share of the likeliest."),
    ] = None,
    logit_bias: Annotated[
        list[str] | None,
        typer.Option(help="ID=BIAS, added to a token's logit, -100 to 100; may be repeated."),
    ] = None,
    logprobs: Annotated[
        int | None,
        typer.Option(help="Log probability of each token on stderr, and of so many likeliest."),
    ] = None,
    n: Annotated[int | None, typer.Option("--n", "-n", help="Answers to give, 1 to 8.")] = None,
    policy: Annotated[str, typer.Option(help="Routing policy for this request alone.")] = "",
    tenant: Annotated[str, typer.Option(help="Whose share of the workers' time it takes.")] = "",
    priority: Annotated[
        int | None, typer.Option(help="Band 0 (goes first) to 9; 5 if not given.")
    ] = None,
    cache_salt: Annotated[
        str,
        typer.Option(help="Cached blocks are shared with requests of the same salt only."),
    ] = "",
    lora: Annotated[str, typer.Option(help="Name of an adapter that workers serve.")] = "",
    router: RouterOption = None,
    name: NameOption = None,
) -> None:
    """Send a prompt, stream the answer, then say which worker served it and what was cached.

    Example: [bold]radixroute submit "What is a radix tree?" --max-tokens 64[/]
    """
    from radixroute.client import RouterClient
    from radixroute.request.limits import PartialSampling

    config = config_for(ctx, router, name)
    content = _content(prompt, messages, raw)
    sampling = PartialSampling(
        temperature=temperature,
        top_p=top_p,
        top_k=_unsigned("--top-k", top_k, 32),
        seed=_unsigned("--seed", seed, 64),
        max_tokens=_unsigned("--max-tokens", max_tokens, 32, least=1),
        min_tokens=_unsigned("--min-tokens", min_tokens, 32),
        stop=tuple(stop or ()),
        n=_unsigned("--n", n, 32),
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        repetition_penalty=repetition_penalty,
        min_p=min_p,
        logit_bias=tuple(map(_bias, logit_bias or ())),
        logprobs=_unsigned("--logprobs", logprobs, 32),
    )
    with RouterClient(
        find_router(config),
        timeout_s=config.client.timeout_s,
        api_key=config.client.api_key,
        ca_file=config.client.ca_file,
    ) as client:
        priority = _unsigned("--priority", priority, 32)
        answers = client.generate(
            content,
            sampling,
            policy=policy,
            tenant=tenant,
            priority=priority,
            cache_salt=cache_salt,
            lora=lora,
        )
        AnswersShown(n or 1).show(answers)


def _content(prompt: str | None, messages: Path | None, raw: bool) -> "Prompt":
    """What to send: a conversation file, or the text as a user's one message, or as it is."""
    from radixroute.answer import RawText

    if messages is not None:
        if prompt is not None or raw:
            raise BadInput("give either a prompt or --messages, not both")
        return _conversation(messages)
    text = _stdin() if prompt is None or prompt == STDIN else prompt
    if not _is_unicode(text):
        raise BadInput("the prompt is not UTF-8 text")
    if not text.strip():
        raise BadInput("the prompt is empty; give some text")
    return RawText(text) if raw else text


def _is_unicode(text: str) -> bool:
    """False for bytes that Python could only smuggle in as halves of surrogate pairs."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _stdin() -> str:
    if sys.stdin.isatty():
        raise BadInput("no prompt: give it as an argument, on stdin, or with --messages FILE")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise BadInput("stdin is not UTF-8 text") from error


def _conversation(path: Path) -> "tuple[ChatMessage, ...]":
    from radixroute.request.chat import ChatMessage

    try:
        turns = json.loads(path.read_text(encoding="utf-8"))
        return tuple(ChatMessage(str(one["role"]), str(one["content"])) for one in turns)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(
            f'{path} is not a conversation; write [{{"role": "user", "content": "..."}}]'
        ) from error


def _unsigned(name: str, value: int | None, bits: int, *, least: int = 0) -> int | None:
    """The wire has no room for anything else; what is in range is the router's to judge."""
    if value is not None and not least <= value < 2**bits:
        raise BadInput(f"{name} is {value}; use {least} or more, below 2^{bits}")
    return value


def _bias(text: str) -> tuple[int, float]:
    token_id, _, bias = text.partition("=")
    try:
        return _unsigned("--logit-bias", int(token_id), 32) or 0, float(bias)
    except ValueError:
        raise BadInput(f"--logit-bias is {text}; write a token id and a number: 198=-5") from None
