"""What plain processes and containers must have in common, and what keeps the two apart."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from chassis.worker import DRAIN_SECONDS
from deploy.local.addresses import choose_ports
from deploy.local.errors import SetupError
from deploy.local.layout import Layout
from deploy.local.nginx import SETTINGS, Nginx, Upstream
from deploy.local.services import (
    CELERY,
    SERVICES,
    Place,
    commands,
    environment,
    health_question,
    stop_seconds,
)
from deploy.local.settings import Settings, read_values
from notification_service.channels.email import MAIL_SECONDS

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
# Set where there is no image that would set it.
PLAIN_ONLY = {"PATH", "PYTHONPATH", "PYTHONUNBUFFERED", "FLASK_SKIP_DOTENV", "HOME", "LANG", "TZ", "TMPDIR"}

# Read, because the module wants a server's environment.
GUNICORN = (REPOSITORY / "chassis/chassis/gunicorn_conf.py").read_text()
GRACEFUL_SECONDS = int(re.findall(r"^graceful_timeout = (\d+)$", GUNICORN, re.MULTILINE)[0])

# Its Compose knows --wait as of 2.1.1: it never ends where a container is to end.
FAKE_DOCKER = """\
#!/bin/sh
case "$*" in
    "compose up --help") echo "--detach --wait" ;;
    "compose up"*--wait) exit 1 ;;
    "compose ps -aq") echo one two ;;
    inspect*) printf '%b' "$STATES" ;;
esac
"""


def filled() -> Settings:
    """Return the example's settings with a value for each empty one."""
    example = read_values(REPOSITORY / ".env.example")
    return Settings({name: value or "x" for name, value in example.items()} | {"HTTP_PORT": "8080"})


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_gets_the_same_settings_in_both_modes(service: str, tmp_path: Path) -> None:
    settings = filled()
    place = Place(Layout(tmp_path, tmp_path), choose_ports(settings), tmp_path, tmp_path, "http://localhost")
    plain = environment(service, settings, place)
    assert plain.keys() - PLAIN_ONLY == COMPOSE[f"{service}-service"]["environment"].keys()


def test_both_modes_run_the_same_processes() -> None:
    plain = {name for service in SERVICES for name in commands(service)}
    assert plain | {"postgres", "redis", "rabbitmq", "nginx", "maildev"} == {
        name for name, entry in COMPOSE.items() if entry.get("restart") != "no"
    }


def test_both_modes_run_celery_and_workers_alike() -> None:
    assert " ".join(commands("notification")[CELERY]).replace("concurrency 2", "concurrency=2").replace(
        "loglevel WARNING", "loglevel=WARNING"
    ) == " ".join(COMPOSE[CELERY]["command"])
    for service in SERVICES:
        worker = f"{service}-service-worker"
        assert list(commands(service)[worker]) == COMPOSE[worker]["command"]


def test_both_modes_ask_workers_for_their_health_alike() -> None:
    for name in {name for service in SERVICES for name in commands(service)}:
        asked = COMPOSE[name]["healthcheck"]["test"]
        if question := health_question(name):
            assert asked == ["CMD", "python", *question]
        else:
            assert "/health" in asked[-1]


def test_nginx_holds_the_services_own_ports_in_both_modes(tmp_path: Path) -> None:
    upstreams = {name: Upstream(21000 + number, 5001 + number) for number, name in enumerate(SERVICES)}
    folders = tmp_path / "own", tmp_path / "logs", tmp_path / "tls"
    Nginx(REPOSITORY / "nginx", *folders, 8080, 8443, upstreams, {"EDGE_LIMIT_READ": "7"}).prepare()
    mode = tmp_path / "own/mode"
    docker = (REPOSITORY / "nginx/docker/ports.conf").read_text()
    assert (mode / "ports.conf").read_text().replace("127.0.0.1:", "") == docker
    assert "default 127.0.0.1:21001;" in (mode / "http.conf").read_text()
    assert "rate=7r/m" in (mode / "settings.conf").read_text()
    assert set(SETTINGS) == COMPOSE["nginx"]["environment"].keys()


def test_a_setting_that_nginx_cannot_use_stops_the_start(tmp_path: Path) -> None:
    upstreams = dict.fromkeys(SERVICES, Upstream(21000, 5001))
    folders = tmp_path / "own", tmp_path / "logs", tmp_path / "tls"
    with pytest.raises(SetupError, match="CORS_ORIGINS"):
        Nginx(REPOSITORY / "nginx", *folders, 8080, 8443, upstreams, {"CORS_ORIGINS": "*"}).prepare()


def test_both_modes_give_processes_the_time_that_they_need_to_finish() -> None:
    needed = {f"{service}-service": GRACEFUL_SECONDS for service in SERVICES}
    needed |= {f"{service}-service-worker": DRAIN_SECONDS for service in SERVICES}
    needed[CELERY] = MAIL_SECONDS
    for name, seconds in needed.items():
        assert COMPOSE[name]["stop_grace_period"] == f"{stop_seconds(name)}s"
        assert seconds < stop_seconds(name)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a folder with the scripts and no Docker engine in reach."""
    shutil.copytree(REPOSITORY / "scripts", tmp_path / "scripts")
    shutil.copy(REPOSITORY / ".env.example", tmp_path)
    return tmp_path


def suite(clone: Path, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], "DOCKER_HOST": "tcp://127.0.0.1:1", **variables}
    line = [str(clone / "scripts/suite.sh"), *command]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False, input="")


def test_data_of_one_mode_is_refused_to_the_other(clone: Path) -> None:
    (clone / "data").mkdir()
    (clone / "data/.mode").write_text("plain\n")
    refusal = suite(clone, "up", MODE="docker")
    assert refusal.returncode == 1
    assert "plain mode" in refusal.stderr
    assert len(refusal.stderr.splitlines()) == 1


def test_data_that_compose_made_by_itself_is_known(clone: Path) -> None:
    (clone / "data/postgres").mkdir(parents=True)
    (clone / "data/postgres/PG_VERSION").write_text("15")
    assert "docker mode" in suite(clone, "up", MODE="plain").stderr
    assert "no Docker engine answers" in suite(clone, "up").stderr


def test_folders_that_are_empty_belong_to_nobody(clone: Path) -> None:
    (clone / "data/postgres").mkdir(parents=True)
    assert "docker mode" not in suite(clone, "url", MODE="plain").stderr


def test_an_unknown_mode_is_refused(clone: Path) -> None:
    assert "docker or plain" in suite(clone, "up", MODE="podman").stderr


def test_a_reset_asks_first(clone: Path) -> None:
    (clone / "data").mkdir()
    (clone / "data/.mode").write_text("plain\n")
    assert suite(clone, "reset").stderr.strip() == "Nothing was deleted."
    assert (clone / "data/.mode").exists()


def test_the_first_command_copies_the_example(clone: Path) -> None:
    suite(clone, "reset")
    assert (clone / ".env").read_text() == (REPOSITORY / ".env.example").read_text()
    assert (clone / ".env").stat().st_mode & 0o777 == 0o600


def test_an_older_compose_is_waited_for(clone: Path) -> None:
    (clone / "bin").mkdir()
    (clone / "bin/docker").write_text(FAKE_DOCKER)
    (clone / "bin/docker").chmod(0o755)
    older = {"PATH": f"{clone}/bin:{os.environ['PATH']}", "MODE": "docker", "WAIT_SECONDS": "0"}
    well = suite(clone, "up", STATES="running:healthy /one\\nexited:0 /setup\\nrunning: /two\\n", **older)
    assert (well.returncode, well.stderr) == (0, "")
    unwell = suite(
        clone, "up", STATES="running:healthy /one\\nrunning:unhealthy /two\\nexited:1 /setup\\n", **older
    )
    assert unwell.returncode == 1
    assert "running:unhealthy /two exited:1 /setup" in unwell.stderr


def test_how_it_is_used_is_told_who_asks(clone: Path) -> None:
    asked, wrong = suite(clone, "--help"), suite(clone, "fly")
    assert (asked.returncode, wrong.returncode) == (0, 1)
    assert asked.stdout == wrong.stderr
    assert asked.stdout.startswith("Usage: scripts/suite.sh COMMAND")
    script = (REPOSITORY / "scripts/suite.sh").read_text()
    [offered] = re.findall(r"^    (up \|.*)\)$", script, re.MULTILINE)
    for command in (*offered.split(" | "), "rolling-restart", "run"):
        assert re.search(rf"^  {command}\b", asked.stdout, re.MULTILINE), command
    assert suite(clone, "run", "order-service", MODE="plain").stderr == asked.stdout


@pytest.mark.parametrize("name", ["order-service", "foo", ""])
def test_only_containers_are_replaced_one_by_one(clone: Path, name: str) -> None:
    refusal = suite(clone, "rolling-restart", name, MODE="plain")
    assert refusal.returncode == 1
    assert refusal.stderr.startswith("Without Docker ")
    assert "make restart SERVICE=order-service" in refusal.stderr
    assert len(refusal.stderr.splitlines()) == 1


def test_the_tests_against_containers_wait_for_an_older_compose_too(clone: Path) -> None:
    (clone / "bin").mkdir()
    stubs = {
        "bin/docker": FAKE_DOCKER,
        "bin/pytest": '#!/bin/sh\necho "pytest at $SHOP_URL: $*"\n',
        "scripts/packages.sh": "#!/bin/sh\n",
        "scripts/python.sh": f'#!/bin/sh\necho "{clone}"\n',
    }
    for name, text in stubs.items():
        (clone / name).write_text(text)
        (clone / name).chmod(0o755)
    states = {"STATES": "running:healthy /one\\n", "WAIT_SECONDS": "0"}
    done = subprocess.run(
        [str(clone / "scripts/test.sh"), "docker", "-x"],
        env={"PATH": f"{clone}/bin:{os.environ['PATH']}", **states},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "pytest at http://localhost: -x tests/e2e tests/security"
