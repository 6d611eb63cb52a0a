"""The command `certs`: a CA of the cluster's own, and what it signs."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radixroute.cli.console import cell, show, tell
from radixroute.errors import BadInput

if TYPE_CHECKING:
    from radixroute.trust.cert_folder import CertFolder

LOOPBACK = ("localhost", "127.0.0.1", "::1")
DAYS = 365


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(certs)


def certs(
    directory: Annotated[Path, typer.Argument(help="Where they are written.")] = Path("certs"),
    *,
    router: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST", help="A name or address by which clients reach the router; repeat."
        ),
    ] = None,
    worker: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="A name or address of a machine with workers, or a name for all (router.link_name)"
            "; repeat.",
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="How long certificates are good.")] = DAYS,
    renew: Annotated[
        bool,
        typer.Option("--renew", help="New certificates under the CA that is there; same names."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Begin anew: a new CA, which every machine then needs.")
    ] = False,
) -> None:
    """Make the certificates that a cluster needs: a CA, one of its routers, one of its workers.

    Loopback is among the names of both. Processes that use the files read new ones by themselves.

    Example: [bold]radixroute certs --router llm.example.org --worker 10.0.0.7 --worker 10.0.0.8[/]
    """
    if renew and force:
        raise BadInput("--renew keeps the CA and --force makes a new one: give one of them")
    from radixroute.trust.authority import Role
    from radixroute.trust.cert_folder import CertFolder, Wanted
    from radixroute.trust.errors import CertsError

    folder = CertFolder(directory.absolute())
    given = {Role.ROUTER: router, Role.WORKER: worker}
    names = {
        role: tuple(dict.fromkeys((*(asked or ()), *LOOPBACK)))
        for role, asked in given.items()
        if asked or not renew
    }
    wanted = Wanted(names, days)
    try:
        if renew:
            folder.renew(wanted, datetime.now(UTC))
        else:
            folder.begin(wanted, datetime.now(UTC), overwrite=force)
        _tell(folder, renew=renew, days=days)
    except CertsError as error:
        raise BadInput(str(error)) from error


def _tell(folder: "CertFolder", *, renew: bool, days: int) -> None:
    from radixroute.trust.authority import Role

    path = folder.path
    for role in Role:
        tell(f"{folder.cert(role.value)}: for {', '.join(folder.names(role))}; {days} days")
    if renew:
        tell("copy them over the old ones: processes that run read them again by themselves")
        return
    tell(f"{folder.key('ca')} signs for the whole cluster: keep it off its machines")
    tell(f"copy ca.pem, router.pem and router-key.pem to the router's machine, in {path}")
    tell(f"copy ca.pem, worker.pem and worker-key.pem to each worker's machine, in {path}")
    tell("and give their settings to whatever starts them (radixroute.toml):")
    show(cell(_settings(path)))
    tell(f"other clients: curl --cacert {path}/ca.pem https://HOST:8000/v1/models")


def _settings(path: Path) -> str:
    return f"""\
[router]
tls_cert_file = "{path}/router.pem"      # both doors speak TLS
tls_key_file = "{path}/router-key.pem"
link_ca_file = "{path}/ca.pem"           # TLS with workers, which must prove themselves

[worker]
tls_cert_file = "{path}/worker.pem"
tls_key_file = "{path}/worker-key.pem"
tls_ca_file = "{path}/ca.pem"            # routers must, too

[client]
ca_file = "{path}/ca.pem"                # for commands"""
