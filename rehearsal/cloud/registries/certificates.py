"""The rehearsal's own certificate authority and the server certificates it issues."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = dt.timedelta(days=30)
CLOCK_SKEW = dt.timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class ServerCertificate:
    """A server certificate and its key, both PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A certificate authority that only the rehearsal's own clients trust."""

    certificate: Path
    """PEM file; give it to clients as SSL_CERT_FILE."""
    key: Path
    """PEM file, mode 0600."""

    @classmethod
    def create(cls, folder: Path) -> Authority:
        """Make a new authority in `folder` (created if missing): ca.crt and ca.key.

        The key may sign nothing but server certificates (path length 0).
        """
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Rehearsal CA")])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        authority = cls(certificate=folder / "ca.crt", key=folder / "ca.key")
        _write_key(authority.key, key)
        authority.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return authority

    def context(self) -> ssl.SSLContext:
        """Return a TLS client context that trusts this authority alone."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def issue(self, names: Sequence[str], folder: Path) -> ServerCertificate:
        """Issue a server certificate for DNS names and IP addresses, the first one its subject.

        The files are `<first name>.crt` and `<first name>.key` in `folder` (created if missing).
        Raises ValueError when `names` is empty, TypeError when the authority's key is foreign.
        """
        if not names:
            raise ValueError("a server certificate needs at least one name")
        folder.mkdir(parents=True, exist_ok=True)
        issuer = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        issuer_key = serialization.load_pem_private_key(self.key.read_bytes(), password=None)
        if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{self.key} holds no elliptic curve key")
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
            .issuer_name(issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + LIFETIME)
            .add_extension(x509.SubjectAlternativeName(_general_names(names)), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
                critical=False,
            )
            .sign(issuer_key, hashes.SHA256())
        )
        issued = ServerCertificate(
            certificate=folder / f"{names[0]}.crt", key=folder / f"{names[0]}.key"
        )
        _write_key(issued.key, key)
        issued.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return issued


def self_signed_client(name: str, organization: str, folder: Path) -> ServerCertificate:
    """Make a client certificate that is its own authority, for a server that trusts it alone.

    Kubernetes reads `name` as the user and `organization` as the group. The files are
    `<name>.crt` and `<name>.key` in `folder` (created if missing).
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
        ]
    )
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    server = ServerCertificate(certificate=folder / f"{name}.crt", key=folder / f"{name}.key")
    _write_key(server.key, key)
    server.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return server


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    general: list[x509.GeneralName] = []
    for name in names:
        try:
            general.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            general.append(x509.DNSName(name))
    return general


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
