"""Certificates: what is made fits together, is for whom it says, and is not lost by accident."""

import ssl
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from radixroute.trust.authority import Authority, Role, Signed, names_of
from radixroute.trust.cert_folder import CertFolder, Wanted
from radixroute.trust.errors import CertsError

NOW = datetime.now(UTC)
NAMES = {Role.ROUTER: ["llm.example.org", "::1"], Role.WORKER: ["10.0.0.7"]}


def files(folder: CertFolder) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in folder.path.iterdir()}


def test_what_is_made_is_for_whom_it_says(tmp_path):
    folder = CertFolder(tmp_path / "new" / "certs")
    folder.begin(Wanted(NAMES, days=90), NOW, overwrite=False)
    assert folder.names(Role.ROUTER) == ("llm.example.org", "::1")
    assert folder.names(Role.WORKER) == ("10.0.0.7",)
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in folder.path.iterdir()}
    assert modes == {
        f"{name}{rest}": mode
        for name in ("ca", "router", "worker")
        for rest, mode in (("-key.pem", 0o600), (".pem", 0o644))
    }
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    worker = x509.load_pem_x509_certificate(folder.cert("worker").read_bytes())
    assert timedelta(days=89) < worker.not_valid_after_utc - NOW <= timedelta(days=90)
    for name in ("ca", "router", "worker"):
        context = ssl.create_default_context(cafile=str(folder.cert("ca")))
        context.load_cert_chain(folder.cert(name), folder.key(name))


def test_renewing_keeps_the_ca_and_the_names(tmp_path):
    folder = CertFolder(tmp_path)
    folder.begin(Wanted(NAMES, days=1), NOW, overwrite=False)
    before = files(folder)
    folder.renew(Wanted({Role.WORKER: ["10.0.0.8"]}, days=30), NOW)
    after = files(folder)
    assert {name for name in before if before[name] == after[name]} == {"ca.pem", "ca-key.pem"}
    assert folder.names(Role.ROUTER) == ("llm.example.org", "::1")
    assert folder.names(Role.WORKER) == ("10.0.0.8",)


def test_nothing_is_overwritten_unasked(tmp_path):
    folder = CertFolder(tmp_path)
    folder.begin(Wanted(NAMES, days=1), NOW, overwrite=False)
    before = files(folder)
    with pytest.raises(CertsError, match="--renew"):
        folder.begin(Wanted(NAMES, days=1), NOW, overwrite=False)
    assert files(folder) == before
    folder.begin(Wanted(NAMES, days=1), NOW, overwrite=True)
    assert files(folder)["ca.pem"] != before["ca.pem"]


def test_what_cannot_be_made_is_said_before_anything_is_written(tmp_path):
    folder = CertFolder(tmp_path / "certs")
    for wrong in ("http://host", "host:8000", "", "a b"):
        with pytest.raises(CertsError, match="no host name or address"):
            folder.begin(Wanted(NAMES | {Role.WORKER: [wrong]}, 1), NOW, overwrite=False)
    with pytest.raises(CertsError, match="No such file"):
        folder.renew(Wanted(NAMES, 1), NOW)
    assert not folder.path.exists()
    folder.begin(Wanted(NAMES, 1), NOW, overwrite=False)
    with pytest.raises(CertsError, match="--days"):
        folder.renew(Wanted(NAMES, days=5000), NOW)
    folder.key("ca").write_bytes(folder.key("router").read_bytes())
    with pytest.raises(CertsError, match="belong together"):
        folder.renew(Wanted(NAMES, 1), NOW)
    folder.key("ca").write_text("torn")
    with pytest.raises(CertsError, match="no PEM"):
        folder.renew(Wanted(NAMES, 1), NOW)


def test_a_ca_is_told_from_any_other():
    one, other = Authority.new(10, NOW), Authority.new(10, NOW)
    names = {x509.load_pem_x509_certificate(a.signed.cert).subject for a in (one, other)}
    assert len(names) == 2
    signed = one.issue(Role.WORKER, ["w"], 1, NOW)
    assert names_of(signed.cert) == ("w",)
    with pytest.raises(CertsError, match="belong together"):
        Authority.read(Signed(one.signed.cert, other.signed.key))
