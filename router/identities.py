"""Identities of a router: at its doors, and towards its workers.

Two, since a door may show what a public CA signed, and workers trust the cluster's own alone.
"""

from radixroute.router.errors import BadSetting
from radixroute.router.settings import RouterSettings
from radixroute.trust.errors import BadPem
from radixroute.trust.identity import Identity
from radixroute.trust.pem_files import PemFiles


def door_identity(settings: RouterSettings) -> Identity | None:
    """What both doors show; None: they speak no TLS. Raises BadSetting."""
    if not settings.tls_cert_file:
        return None
    files = PemFiles(settings.tls_cert_file, settings.tls_key_file)
    return _identity(files, ("http/1.1",))


def link_identity(settings: RouterSettings) -> Identity | None:
    """What it shows its workers; None: it speaks to them in the clear. Raises BadSetting."""
    if not settings.link_ca_file:
        return None
    cert, key, cert_name, key_name = (
        (settings.link_cert_file, settings.link_key_file, "link_cert_file", "link_key_file")
        if settings.link_cert_file
        else (settings.tls_cert_file, settings.tls_key_file, "tls_cert_file", "tls_key_file")
    )
    names = (cert_name, key_name, "link_ca_file")
    return _identity(PemFiles(cert, key, settings.link_ca_file, names))


def _identity(files: PemFiles, protocols: tuple[str, ...] = ()) -> Identity:
    try:
        return Identity(files, protocols)
    except BadPem as error:
        raise BadSetting(error.name, error.problem) from None
