"""Settings come from .env over the example, and the shell wins, as with Compose."""

from pathlib import Path

import pytest

from deploy.local.addresses import choose_ports, refuse_taken, url, urls
from deploy.local.errors import SetupError
from deploy.local.ports import free_ports
from deploy.local.settings import Settings, read_values


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    example, file = tmp_path / "example", tmp_path / "env"
    example.write_text("# comment\nA=1\nB=2\nC=\n\nURL=http://x?a=b\n")
    file.write_text("B=3\n")
    return file, example


def test_the_own_file_wins_over_the_example_and_the_shell_over_both(files: tuple[Path, Path]) -> None:
    settings = Settings.load(*files, shell={"A": "9", "UNKNOWN": "x"})
    assert (settings["A"], settings["B"], settings.get("C", "none")) == ("9", "3", "none")
    assert settings.all().keys() == {"A", "B", "C", "URL"}


def test_values_may_hold_an_equals_sign(files: tuple[Path, Path]) -> None:
    assert read_values(files[1])["URL"] == "http://x?a=b"


def test_an_empty_setting_that_is_needed_is_named() -> None:
    with pytest.raises(SetupError, match="REDIS_PASSWORD"):
        Settings({})["REDIS_PASSWORD"]


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1"])
def test_a_port_that_is_none_is_named(text: str) -> None:
    with pytest.raises(SetupError, match="HTTP_PORT"):
        Settings({"HTTP_PORT": text}).port("HTTP_PORT", 80)


def test_production_has_no_mail_catcher() -> None:
    free = {"HTTP_PORT": "8080", "HTTPS_PORT": "8443"}
    assert "MAIL_PORT" in choose_ports(Settings(free))
    assert "MAIL_PORT" not in choose_ports(Settings(free | {"APP_ENV": "production"}))


def test_a_taken_port_is_named_by_its_setting() -> None:
    import socket

    [port] = free_ports(1)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(SetupError, match=rf"Port {port} is taken .* POSTGRES_PORT"):
            refuse_taken({"POSTGRES_PORT": port}, ours={})
        refuse_taken({"POSTGRES_PORT": port}, ours={"POSTGRES_PORT": port})


def test_two_settings_with_one_port_are_named() -> None:
    [port] = free_ports(1)
    with pytest.raises(SetupError, match="REDIS_PORT and MAIL_PORT"):
        refuse_taken({"REDIS_PORT": port, "MAIL_PORT": port}, ours={})


def test_services_listen_where_no_client_looks() -> None:
    settings = Settings({"HTTP_PORT": "8080", "HTTPS_PORT": "8443"})
    chosen = choose_ports(settings)
    assert len(set(chosen.values())) == len(chosen)
    again = choose_ports(settings, kept=chosen)
    assert again == chosen
    # A port that became another's by .env is given up.
    taken = {"HTTP_PORT": str(chosen["ORDER_SERVICE_INNER_PORT"])}
    assert choose_ports(Settings(taken), kept=chosen)["ORDER_SERVICE_INNER_PORT"] != int(taken["HTTP_PORT"])


def test_addresses_leave_out_the_schemes_own_port() -> None:
    assert url("http", 80) == "http://localhost"
    assert url("https", 443) == "https://localhost"
    assert url("https", 8443) == "https://localhost:8443"
    assert urls(choose_ports(Settings({"HTTP_PORT": "8080"})))["shop"] == "http://localhost:8080"
