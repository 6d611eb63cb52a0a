"""The command `serve`: engines that run already behind a router of ours, without Ray."""

from typing import Annotated

import typer

from radixroute.cli.cluster.options import ClusterNameOption, SetOption, config_of
from radixroute.cli.console import tell
from radixroute.cli.policies import NamesPolicies
from radixroute.cli.reported_errors import reported_deploy_errors
from radixroute.config import Given, flag


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(cls=NamesPolicies)(serve)


def serve(  # noqa: PLR0913 - every parameter is an option of the command line
    ctx: typer.Context,
    *,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]URL",
            help="An engine's HTTP server: vLLM, SGLang, or OpenAI-compatible; repeat for each.",
        ),
    ] = None,
    dialect: Annotated[
        str | None,
        typer.Option(
            metavar="auto|vllm|sglang|openai",
            help="What the engines speak. Default: found out of each, and said.",
        ),
    ] = None,
    policy: Annotated[str | None, typer.Option(help="Routing policy.")] = None,
    host: Annotated[str | None, typer.Option(help="Address the router listens on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the router's gRPC door.")] = None,
    http_port: Annotated[
        int | None, typer.Option(help="Port of the OpenAI API, at the same host; 0: a free one.")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="DIRECTORY",
            help="The model's tokenizer and config.json. Default: the folder the engine names.",
        ),
    ] = None,
    block_size: Annotated[
        int | None, typer.Option(help="Where an engine does not tell its own. Tokens.")
    ] = None,
    engine_key_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Holds the engines' API key.")
    ] = None,
    allow_no_events: Annotated[
        bool,
        typer.Option(
            "--allow-no-events", help="Serve engines that send none: their caches are believed."
        ),
    ] = False,
    allow_no_replay: Annotated[
        bool,
        typer.Option(
            "--allow-no-replay", help="Serve engines that cannot say again what they cached."
        ),
    ] = False,
    allow_no_cached_tokens: Annotated[
        bool,
        typer.Option(
            "--allow-no-cached-tokens", help="Serve engines that do not report cached tokens."
        ),
    ] = False,
    insecure_bind: Annotated[
        bool, typer.Option("--insecure-bind", help="Allow addresses that others can reach.")
    ] = False,
    name: ClusterNameOption = None,
    settings: SetOption = None,
) -> None:
    """Put a router in front of engines that run already; it stays in the foreground, Ctrl-C drains.

    An engine that is down is waited for. One that cannot join is told with the flag that helps.

    Example: [bold]radixroute serve --engine http://10.0.0.1:8000 --engine http://10.0.0.2:8000[/]
    """
    flags = {
        "--dialect": ("companion.dialect", dialect),
        "--policy": ("router.policy", policy),
        "--host": ("router.host", host),
        "--port": ("router.port", port),
        "--http-port": ("router.http_port", http_port),
        "--tokenizer": ("companion.model", tokenizer),
        "--block-size": ("companion.block_size", block_size),
        "--engine-key-file": ("companion.api_key_file", engine_key_file),
        "--name": ("cluster.name", name),
    }
    given = [flag(key, value, typed) for typed, (key, value) in flags.items() if value is not None]
    switches = {
        "--allow-no-events": ("companion.allow_no_events", allow_no_events),
        "--allow-no-replay": ("companion.allow_no_replay", allow_no_replay),
        "--allow-no-cached-tokens": ("companion.allow_no_cached_tokens", allow_no_cached_tokens),
        "--insecure-bind": ("router.insecure_bind", insecure_bind),
    }
    given += [flag(key, True, typed) for typed, (key, is_on) in switches.items() if is_on]
    if engine:
        given.append(Given("serve.engines", list(engine), "--engine", is_text=False))
    cluster = config_of(ctx, given, settings).cluster
    from radixroute.deploy.serving.serve import serve as run

    with reported_deploy_errors():
        status = run(cluster, tell)
    raise typer.Exit(status)
