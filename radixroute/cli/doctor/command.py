"""The command `doctor`. It changes nothing; of engines that are named it asks a few short prompts.

Exit codes: 0 nothing found, 1 something found, 2 it could not look (and found nothing where it
could), or what was typed cannot be.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from radixroute.cli.console import JsonOption, show_json, tell
from radixroute.cli.context import config_for, context_of
from radixroute.cli.router_address import NameOption, RouterOption, find_router
from radixroute.config import FILE_NAME, FILE_VARIABLE
from radixroute.errors import BadInput

FOUND, NOT_SEEN = 1, 2


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(doctor)


def doctor(  # noqa: PLR0913 - every parameter is an option of the command line
    ctx: typer.Context,
    *,
    router: RouterOption = None,
    name: NameOption = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="An engine's HTTP server before it is attached; repeat to compare several. It is "
            "asked a few short prompts. Then no router is looked at unless one is named.",
        ),
    ] = None,
    dialect: Annotated[
        str | None,
        typer.Option(
            metavar="auto|vllm|sglang|openai",
            help="What the engines speak. Default: found out of each.",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="DIRECTORY",
            help="The model's tokenizer and config.json. Default: the folder the engine names.",
        ),
    ] = None,
    engine_key_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Holds the engines' API key.")
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE", help="Leave out what is known and meant so; repeat for each."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.0, help="Between two looks at a router, to see what moves.")
    ] = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong with a running fleet, or with an engine, and which flag mends it.

    Exit code 0: nothing found, 1: something found, 2: it could not look.

    Example: [bold]radixroute doctor[/], [bold]radixroute doctor --engine http://127.0.0.1:8000[/]
    """
    from radixroute.cli.doctor.show import as_values, show_findings
    from radixroute.config import flag
    from radixroute.doctor.gather.gathering import Wanted, gather
    from radixroute.doctor.table import CODES, diagnose
    from radixroute.worker.errors import WorkerError

    unknown = sorted(set(ignore or ()) - CODES)
    if unknown:
        raise BadInput(f"--ignore {unknown[0]}: there is no such code; docs/doctor.md has them all")
    given = {"companion.model": ("--tokenizer", tokenizer)}
    given |= {"companion.dialect": ("--dialect", dialect)}
    given |= {"companion.api_key_file": ("--engine-key-file", engine_key_file)}
    flags = [flag(key, value, typed) for key, (typed, value) in given.items() if value is not None]
    config = config_for(ctx, router, name, flags)
    looks_at_router = not engine or router is not None or name is not None
    if engine:
        tell("each engine is asked a few prompts of a few blocks")
    wanted = Wanted(
        config=config,
        config_path=_config_path(ctx),
        find_router=(lambda: find_router(config)) if looks_at_router else None,
        engines=tuple(url.rstrip("/").removesuffix("/v1") for url in engine or ()),
        seconds=seconds,
    )
    try:
        gathered = gather(wanted)
    except WorkerError as error:
        raise BadInput(str(error)) from error
    found = [one for one in diagnose(gathered.evidence) if one.code not in set(ignore or ())]
    if as_json:
        show_json(as_values(gathered, found))
    else:
        show_findings(gathered, found)
    if found:
        raise typer.Exit(FOUND)
    if gathered.not_seen:
        raise typer.Exit(NOT_SEEN)


def _config_path(ctx: typer.Context) -> Path | None:
    """Of the settings file that counts."""
    given = context_of(ctx).config_path
    named = os.environ.get(FILE_VARIABLE)
    path = given or Path(named or FILE_NAME)
    return path if path.is_file() else None
