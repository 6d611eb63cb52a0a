"""The commands about a cluster as a whole: `up`, `down`, `config`, `warm`."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import typer

from radixroute.cli.cluster.options import ClusterNameOption, SetOption, config_of
from radixroute.cli.console import JsonOption, cell, show, show_json, show_table, table_of, tell
from radixroute.cli.policies import NamesPolicies
from radixroute.cli.reported_errors import reported_deploy_errors
from radixroute.config import DEFAULT, flag
from radixroute.deploy.settings import ClusterSettings, no_model
from radixroute.errors import BadConfig

AddressOption = Annotated[
    str | None,
    typer.Option(help='A running Ray to join: "auto" or HOST:PORT. Default: a Ray of its own.'),
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(cls=NamesPolicies)(up)
    app.command()(down)
    app.command()(config)
    app.command()(warm)


def up(  # noqa: PLR0913 - every parameter is an option of the command line
    ctx: typer.Context,
    *,
    model: Annotated[
        str | None, typer.Option(help="A Hugging Face directory or a .gguf file.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="How many workers.")] = None,
    policy: Annotated[str | None, typer.Option(help="Routing policy.")] = None,
    host: Annotated[str | None, typer.Option(help="Address the router listens on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the router.")] = None,
    http_port: Annotated[
        int | None, typer.Option(help="Port of the router's OpenAI API over HTTP.")
    ] = None,
    kv_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="KV pool of each worker, e.g. 512MiB.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="torch (our own) or vllm: each worker starts a `vllm serve` of its own."),
    ] = None,
    num_gpus_per_worker: Annotated[
        float | None, typer.Option(help="GPUs Ray sets aside for each worker.")
    ] = None,
    insecure_bind: Annotated[
        bool, typer.Option("--insecure-bind", help="Allow addresses that others can reach.")
    ] = False,
    events_compat: Annotated[
        bool,
        typer.Option(
            "--events-compat",
            help="Let other routers listen: each worker also publishes its cache events as vLLM "
            "does, with the token ids of all prompts in the clear.",
        ),
    ] = False,
    address: AddressOption = None,
    name: ClusterNameOption = None,
    settings: SetOption = None,
) -> None:
    """Start Ray, the workers and the router; they stay up until `radixroute down`.

    Example: [bold]radixroute up --model .cache/models/SmolLM2-135M-Instruct --workers 2[/]
    """
    flags = {
        "--model": ("worker.model", model),
        "--workers": ("cluster.workers", workers),
        "--policy": ("router.policy", policy),
        "--host": ("router.host", host),
        "--port": ("router.port", port),
        "--http-port": ("router.http_port", http_port),
        "--kv-memory": ("worker.kv_memory", kv_memory),
        "--device": ("worker.device", device),
        "--engine": ("cluster.engine", engine),
        "--num-gpus-per-worker": ("cluster.num_gpus_per_worker", num_gpus_per_worker),
        "--address": ("cluster.address", address),
        "--name": ("cluster.name", name),
    }
    given = [flag(key, value, typed) for typed, (key, value) in flags.items() if value is not None]
    if insecure_bind:
        given += [flag(f"{one}.insecure_bind", True, "--insecure-bind") for one in _LISTENERS]
    if events_compat:
        given.append(flag("worker.events_compat", True, "--events-compat"))
    cluster = _runnable(config_of(ctx, given, settings).cluster)
    from radixroute.deploy.cluster import up_down

    try:
        with reported_deploy_errors():
            state = up_down.up(cluster, tell)
    except KeyboardInterrupt:
        tell("interrupted: what had been started is down again")
        raise
    show(f"router at [bold]{cell(state.router_address)}[/]; ask it something:")
    show(f'  radixroute submit "What is a radix tree?" --router {cell(state.router_address)}')
    if state.run_dir:
        show(f"logs: {cell(state.run_dir)}")


def down(
    ctx: typer.Context,
    *,
    address: AddressOption = None,
    name: ClusterNameOption = None,
    settings: SetOption = None,
) -> None:
    """Stop the cluster that `up` started, and everything below it.

    Example: [bold]radixroute down[/]
    """
    flags = {"--address": ("cluster.address", address), "--name": ("cluster.name", name)}
    given = [flag(key, value, typed) for typed, (key, value) in flags.items() if value is not None]
    cluster = config_of(ctx, given, settings).cluster
    from radixroute.deploy.cluster import up_down

    with reported_deploy_errors():
        up_down.down(cluster, tell)


def config(
    ctx: typer.Context,
    *,
    changed: Annotated[
        bool, typer.Option("--changed", help="Leave out what is at its default.")
    ] = False,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every setting with its value and where that came from; secrets are masked.

    Example: [bold]RADIXROUTE_WORKER_KV_MEMORY=1GiB radixroute config --changed[/]
    """
    shown = [
        one
        for one in config_of(ctx, [], settings).settings()
        if not changed or one.source != DEFAULT
    ]
    if as_json:
        show_json({one.key: {"value": one.shown, "source": one.source} for one in shown})
        return
    if not shown:
        show("every setting is at its default")
        return
    table = table_of("", ("setting", "value", "from"), left=("setting",), text=("value", "from"))
    section = None
    for one in shown:
        if section not in (None, one.key.split(".")[0]):
            table.add_section()
        section = one.key.split(".")[0]
        table.add_row(
            cell(one.key),
            cell(_readable(one.shown)),
            cell(one.source),
            style="dim" if one.source == DEFAULT else "",
        )
    show_table(table)


def warm() -> None:
    """Compile all kernels now, so that no command and no request waits for it.

    Example: [bold]radixroute warm[/]
    """
    from radixroute.events.warm import warm as warm_events
    from radixroute.insight.warm import warm as warm_insight
    from radixroute.replay.warm import warm as warm_replay
    from radixroute.router.policy.warm import warm as warm_policies
    from radixroute.worker.model.cpu.warm import warm as warm_engine

    started = time.perf_counter()
    for warm_room in (warm_events, warm_policies, warm_replay, warm_insight, warm_engine):
        warm_room()
    show(f"kernels are ready ({time.perf_counter() - started:.1f} s)")


_LISTENERS = ("router", "worker")


def _runnable(cluster: ClusterSettings) -> ClusterSettings:
    """With a model, by its full path: the daemon runs elsewhere."""
    model = cluster.worker.model
    if not model:
        raise BadConfig(
            "no model: give --model DIRECTORY (`make model` fetches a small one into "
            ".cache/models), or set worker.model"
        )
    path = Path(model).expanduser()
    if cluster.address is None and not path.exists():
        raise BadConfig(f"worker.model: {no_model(model)}")
    full = str(path.resolve()) if path.exists() else model
    return dataclasses.replace(cluster, worker=dataclasses.replace(cluster.worker, model=full))


def _readable(value: object) -> object:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        value = ", ".join(value)
    return '""' if value == "" else value
