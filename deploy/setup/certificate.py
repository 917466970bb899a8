"""Make the self-signed certificate that port 443 answers with until the operator brings a real one.

    python certificate.py FOLDER [PUBLIC_URL]

Writes FOLDER/cert.pem and FOLDER/key.pem. What is there is left alone: a pair that belongs together is used
as it is, for a key alone only the certificate is made, and anything else is refused.
"""

import datetime
import ipaddress
import os
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

YEARS = 10
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class BadCertificate(Exception):
    """The files can't be used; the text says why in one sentence."""


def make_certificate(folder: Path, public_url: str = "") -> None:
    """Make key and certificate for this machine and the host of `public_url`, unless they are there."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    if certificate.exists():
        _check_pair(certificate, key)
        return
    folder.mkdir(parents=True, exist_ok=True)
    # A key alone is an operator's, or what a broken first start left behind; either will do.
    private = _read_key(key) if key.exists() else ec.generate_private_key(ec.SECP256R1())
    names = dict.fromkeys((*LOCAL_NAMES, urlsplit(public_url).hostname or "localhost"))
    made = _sign(private, list(names)).public_bytes(serialization.Encoding.PEM)
    if not key.exists():
        _write(key, _encode_key(private), 0o600)
    _write(certificate, made, 0o644)


def _check_pair(certificate: Path, key: Path) -> None:
    if not key.exists():
        raise BadCertificate(f"{certificate} has no key beside it: put it into {key}.")
    try:
        # A key that is encrypted would make Nginx ask for its password.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, ValueError):
        raise BadCertificate(f"{certificate} and {key} are no certificate and its open key.") from None


def _read_key(key: Path) -> PrivateKey:
    try:
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadCertificate(f"{key} is no private key, unencrypted.") from None
    if not isinstance(private, PrivateKey):
        raise BadCertificate(f"{key} must be an RSA or an elliptic curve key.")
    return private


def _encode_key(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _sign(private: PrivateKey, names: list[str]) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[-1])])
    usage = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
        .sign(private, hashes.SHA256())
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.encode("idna").decode())


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write all of a file or none of it, readable to others only as far as `mode` says."""
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    unfinished.replace(path)


if __name__ == "__main__":
    try:
        make_certificate(Path(sys.argv[1]), *sys.argv[2:3])
    except BadCertificate as refusal:
        sys.exit(str(refusal))
