"""Make the self-signed certificate that port 443 answers with until the operator brings a real one.

    python certificate.py FOLDER [PUBLIC_URL]

Writes FOLDER/cert.pem and FOLDER/key.pem, and leaves what is there.
"""

import datetime
import ipaddress
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

YEARS = 10
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


def make_certificate(folder: Path, public_url: str = "") -> None:
    """Make key and certificate for this machine and the host of `public_url`, unless one is there."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    # The certificate is written last, so a key alone is what a broken first start left behind.
    if certificate.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    private = ec.generate_private_key(ec.SECP256R1())
    names = dict.fromkeys((*LOCAL_NAMES, urlsplit(public_url).hostname or "localhost"))
    _write(key, _encode_key(private), 0o600)
    _write(certificate, _sign(private, list(names)).public_bytes(serialization.Encoding.PEM), 0o644)


def _encode_key(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _sign(private: ec.EllipticCurvePrivateKey, names: list[str]) -> x509.Certificate:
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
    make_certificate(Path(sys.argv[1]), *sys.argv[2:3])
