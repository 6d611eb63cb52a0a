"""The command `replay synth`: a synthetic workload becomes a trace file."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from radixroute.cli.console import cell, show
from radixroute.cli.replay.trace_file import write_trace
from radixroute.cli.reported_errors import reported_replay_errors
from radixroute.errors import BadInput


def synth(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="chats, system_prompts, few_shot, agent_trees, rag, bursts, hot_prefix or agents.",
        ),
    ],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write; .gz compresses it.")
    ],
    seed: Annotated[int, typer.Option(help="The same seed gives the same file.")] = 0,
    requests: Annotated[
        int | None, typer.Option(help="How many requests. Default: 2,000.", show_default=False)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A parameter of the kind; may be repeated."
        ),
    ] = None,
) -> None:
    """Write a synthetic workload as a trace file.

    Example: [bold]radixroute replay synth chats -o chats.jsonl.gz --seed 1 --set think_s=5[/]
    """
    from radixroute.replay.synth.workloads import shape_of, synthesize

    texts = dict(_assignment(text) for text in settings or ())
    with reported_replay_errors():
        shape = shape_of(kind, texts)
        if requests is not None:
            shape = dataclasses.replace(shape, requests=requests)
        trace = synthesize(kind, seed, shape)
    write_trace(trace, output)
    show(
        f"{len(trace):,} requests, {trace.prompt_tokens:,} prompt tokens, digest {trace.digest}:"
        f" [bold]{cell(output)}[/]"
    )


def _assignment(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise BadInput(f"--set {text}: write NAME=VALUE")
    return name.strip(), value.strip()
