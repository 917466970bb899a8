"""What happens before any container starts."""

import os
import re
import ssl
import stat
import sys
from pathlib import Path

import pytest
from cryptography import x509

from chassis.config import is_example
from deploy.local.settings import read_values
from deploy.setup.checks import OPTIONAL, SECRETS, Refused, check_settings, read_files
from tests.servers import REPOSITORY

# The scripts are run by their path, so they find each other as neighbours.
sys.path.append(str(REPOSITORY / "deploy/setup"))

import prepare
from certificate import BadCertificate, make_certificate

PRODUCTION = {"APP_ENV": "production", "SMTP_HOST": "mail.example", **dict.fromkeys(SECRETS, "ours")}
EXAMPLE = read_values(REPOSITORY / ".env.example")
SECRET = re.compile("PASSWORD|_PASS$|SECRET|_KEY$")


def test_development_starts_with_the_examples() -> None:
    check_settings(EXAMPLE)


def test_production_starts_with_settings_of_its_own() -> None:
    check_settings(PRODUCTION)


def test_the_secrets_of_the_example_are_all_known() -> None:
    assert {name for name in EXAMPLE if SECRET.search(name)} == {*SECRETS, *OPTIONAL}
    assert [name for name in SECRETS if not is_example(EXAMPLE[name])] == []
    assert [name for name in OPTIONAL if EXAMPLE[name]] == []


@pytest.mark.parametrize("name", SECRETS)
def test_production_refuses_what_the_example_publishes_and_what_is_missing(name: str) -> None:
    for value in (EXAMPLE[name], ""):
        with pytest.raises(Refused, match=f"{name} in .env is missing or still the example's") as refusal:
            check_settings(PRODUCTION | {name: value})
        assert not value or value not in str(refusal.value)


@pytest.mark.parametrize("host", ["", "maildev"])
def test_production_needs_a_mail_server(host: str) -> None:
    with pytest.raises(Refused, match="SMTP_HOST"):
        check_settings(PRODUCTION | {"SMTP_HOST": host})


def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from a file \n\n")
    named = {"REDIS_PASSWORD_FILE": str(tmp_path / "secret"), "SSL_CERT_FILE": "/nowhere"}
    assert read_files(named | {"REDIS_PASSWORD": ""}) == {"REDIS_PASSWORD": "from a file \n"}
    with pytest.raises(Refused, match="Both REDIS_PASSWORD and REDIS_PASSWORD_FILE are set"):
        read_files(named | {"REDIS_PASSWORD": "hunter2"})
    with pytest.raises(Refused, match="REDIS_PASSWORD_FILE names a file that can't be read"):
        read_files({"REDIS_PASSWORD_FILE": str(tmp_path / "nothing")})


def test_the_first_start_claims_the_data(tmp_path: Path) -> None:
    prepare.claim_data(tmp_path)
    prepare.claim_data(tmp_path)
    assert (tmp_path / "data/.mode").read_text() == "docker\n"


def test_data_of_plain_processes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/.mode").write_text("plain\n")
    with pytest.raises(prepare.Refused, match="plain mode"):
        prepare.claim_data(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may hand files over")
def test_the_services_get_their_folders_with_all_that_is_in_them(tmp_path: Path) -> None:
    (tmp_path / "logs/user-service").mkdir(parents=True)
    (tmp_path / "logs/user-service/app.log").touch()
    prepare.hand_over(tmp_path)
    for name in ("logs/user-service/app.log", "logs/order-service", "data/sms"):
        assert (tmp_path / name).stat().st_uid == prepare.SERVICE_USER


def test_the_certificate_is_made_once_for_this_machine_and_the_public_name(tmp_path: Path) -> None:
    make_certificate(tmp_path, "https://shop.example:8443")
    made = (tmp_path / "cert.pem").read_bytes()
    make_certificate(tmp_path, "https://another.example")
    assert (tmp_path / "cert.pem").read_bytes() == made
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    names = x509.load_pem_x509_certificate(made).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost", "shop.example"]
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
        tmp_path / "cert.pem", tmp_path / "key.pem"
    )


def test_an_operators_pair_is_left_alone(tmp_path: Path) -> None:
    make_certificate(tmp_path, "https://real.example")
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    make_certificate(tmp_path, "https://another.example")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_an_operators_key_is_never_overwritten(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    (tmp_path / "cert.pem").unlink()
    key = (tmp_path / "key.pem").read_bytes()
    make_certificate(tmp_path)
    assert (tmp_path / "key.pem").read_bytes() == key
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
        tmp_path / "cert.pem", tmp_path / "key.pem"
    )


@pytest.mark.parametrize(
    ("cert", "key", "reason"),
    [
        ("theirs", None, "has no key beside it"),
        ("theirs", "another's", "are no certificate"),
        ("nonsense", "theirs", "are no certificate"),
        (None, "nonsense", "is no private key"),
    ],
)
def test_files_that_do_not_belong_together_are_refused_and_left_alone(
    tmp_path: Path, cert: str | None, key: str | None, reason: str
) -> None:
    for owner in ("theirs", "another's"):
        make_certificate(tmp_path / owner)
    shop = tmp_path / "shop"
    shop.mkdir()
    for name, owner in (("cert.pem", cert), ("key.pem", key)):
        if owner == "nonsense":
            (shop / name).write_text("-----BEGIN NOTHING-----\n")
        elif owner:
            (shop / name).write_bytes((tmp_path / owner / name).read_bytes())
    before = {path.name: path.read_bytes() for path in shop.iterdir()}
    with pytest.raises(BadCertificate, match=reason):
        make_certificate(shop)
    assert {path.name: path.read_bytes() for path in shop.iterdir()} == before
