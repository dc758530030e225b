"""The rehearsal's own certificate authority and the server certificates it issues."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rehearsal.locations import write_private

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
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Rehearsal CA")
        builder = (
            _builder(name, name, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        )
        written = _write(folder / "ca", builder.sign(key, hashes.SHA256()), key)
        return cls(certificate=written.certificate, key=written.key)

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
        issuer = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        issuer_key = serialization.load_pem_private_key(self.key.read_bytes(), password=None)
        if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{self.key} holds no elliptic curve key")
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_name(names[0][:64]), issuer.subject, key)
            .add_extension(x509.SubjectAlternativeName(_general_names(names)), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
                critical=False,
            )
        )
        return _write(folder / names[0], builder.sign(issuer_key, hashes.SHA256()), key)


def self_signed_client(name: str, organization: str, folder: Path) -> ServerCertificate:
    """Make a client certificate that is its own authority, for a server that trusts it alone.

    Kubernetes reads `name` as the user and `organization` as the group. The files are
    `<name>.crt` and `<name>.key` in `folder` (created if missing).
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name, organization)
    builder = (
        _builder(subject, subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    return _write(folder / name, builder.sign(key, hashes.SHA256()), key)


def _name(name: str, organization: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
    )


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


def _write(
    path: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> ServerCertificate:
    """Write `<path>.crt` and `<path>.key`, into a folder that is created if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = ServerCertificate(certificate=Path(f"{path}.crt"), key=Path(f"{path}.key"))
    write_key(written.key, key)
    written.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return written


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a private key as a PEM file of mode 0600."""
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    write_private(path, pem.decode())
