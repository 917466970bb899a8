"""A command beside a service's process: the same folder, settings and user, and clear refusals."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import accounts
from deploy.local.addresses import choose_ports
from deploy.local.errors import SetupError
from deploy.local.layout import Layout
from deploy.local.postgres import Postgres
from deploy.local.services import Place, beside, environment, service_programs
from deploy.local.settings import Settings, read_values

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def own_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the services' user be the caller, who need not have made that user."""
    monkeypatch.setattr(accounts, "account", lambda _: accounts.caller())


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a folder with what the scripts need."""
    for name in ("scripts", "deploy"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    shutil.copy(REPOSITORY / ".env.example", tmp_path)
    return tmp_path


def service(clone: Path, *line: str) -> "subprocess.CompletedProcess[str]":
    settings = {"PATH": os.environ["PATH"], "MODE": "plain"}
    command = [str(clone / "scripts/service.sh"), *line]
    return subprocess.run(command, env=settings, capture_output=True, text=True, check=False, input="")


@pytest.mark.usefixtures("own_account")
def test_a_command_gets_what_the_service_has(tmp_path: Path) -> None:
    values = read_values(REPOSITORY / ".env.example")
    settings = Settings({name: value or "x" for name, value in values.items()} | {"HTTP_PORT": "8080"})
    ports = choose_ports(settings)
    place = Place(Layout(tmp_path, tmp_path), ports, tmp_path / "code", Path(sys.prefix), "http://localhost")
    programs = service_programs(settings, place)
    found = beside(programs, "order-service", ["flask", "outbox"])
    assert found.command == ("flask", "outbox")
    assert found.directory == tmp_path / "code/order-service"
    assert found.environment == environment("order", settings, place)
    assert found.owner == accounts.caller()
    with pytest.raises(SetupError, match="no service shop-service; there are postgres, user-service, "):
        beside(programs, "shop-service", ["flask"])


def test_a_suite_that_does_not_run_is_said_in_one_sentence(clone: Path) -> None:
    refusal = service(clone, "order-service", "flask", "outbox", "--limit", "1")
    assert refusal.returncode == 1
    assert refusal.stderr == "The suite does not run; start it with make up.\n"


def test_a_command_is_asked_for(clone: Path) -> None:
    assert service(clone, "order-service").stderr.startswith("Usage: scripts/service.sh SERVICE COMMAND")


@pytest.mark.usefixtures("own_account")
def test_the_database_server_is_spoken_to_over_its_private_socket(tmp_path: Path) -> None:
    server = Postgres(tmp_path / "data", tmp_path / "socket", 5433)
    server.data.mkdir()
    (server.data / "PG_VERSION").write_text("15\n")
    found = server.beside(["psql", "order_db"])
    assert found.command == ("psql", "order_db")
    where = {name: found.environment[name] for name in ("PGHOST", "PGPORT", "PGUSER")}
    assert where == {"PGHOST": str(server.sockets), "PGPORT": "5433", "PGUSER": "postgres"}
    assert found.environment["PATH"].startswith("/usr/lib/postgresql/15/bin:")
    assert "PGPASSWORD" not in found.environment


def test_a_container_of_the_database_is_spoken_to_as_its_superuser(clone: Path) -> None:
    (clone / "bin").mkdir()
    (clone / "bin/docker").write_text('#!/bin/sh\necho "$*"\n')
    (clone / "bin/docker").chmod(0o755)
    path = {"PATH": f"{clone}/bin:{os.environ['PATH']}", "MODE": "docker"}

    def line(*words: str) -> str:
        command = [str(clone / "scripts/service.sh"), *words]
        done = subprocess.run(command, env=path, capture_output=True, text=True, check=True, input="")
        return done.stdout.splitlines()[-1]

    assert line("postgres", "psql", "order_db") == "compose exec -T -e PGUSER=postgres postgres psql order_db"
    assert line("order-service", "flask", "outbox") == "compose exec -T order-service flask outbox"
