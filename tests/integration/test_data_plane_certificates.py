"""The rehearsal's certificate authority."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from rehearsal.cloud.registries.certificates import Authority


def trusts(authority: Authority, certificate: Path, name: str) -> bool:
    store = Store([x509.load_pem_x509_certificate(authority.certificate.read_bytes())])
    verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName(name))
    try:
        verifier.verify(x509.load_pem_x509_certificate(certificate.read_bytes()), [])
    except VerificationError:
        return False
    return True


def test_a_certificate_is_good_for_its_names_under_its_authority_only(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "one")
    other = Authority.create(tmp_path / "two")
    issued = authority.issue(["a.example", "b.example", "127.0.0.1"], tmp_path / "leaf")
    assert trusts(authority, issued.certificate, "a.example")
    assert trusts(authority, issued.certificate, "b.example")
    assert not trusts(authority, issued.certificate, "c.example")
    assert not trusts(other, issued.certificate, "a.example")


def test_keys_are_private_files(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path)
    issued = authority.issue(["a.example"], tmp_path)
    for key in (authority.key, issued.key):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_certificate_needs_a_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one name"):
        Authority.create(tmp_path).issue([], tmp_path)
