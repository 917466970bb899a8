"""With APP_ENV=production every process ends on a secret that is missing or published, and names it."""

import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.local.addresses import choose_ports
from deploy.local.layout import Layout
from deploy.local.services import CELERY, SERVICES, Place, commands, environment
from deploy.local.settings import Settings, read_values
from deploy.setup.checks import SECRETS
from tests.servers import REPOSITORY

EXAMPLE = read_values(REPOSITORY / ".env.example")
# Each one to be found in what a process says, should it say it.
STRONG = {name: f"only-for-tests-{name.lower()}-0123456789abcdef" for name in SECRETS}
PRODUCTION = EXAMPLE | STRONG | {"APP_ENV": "production", "SMTP_HOST": "mail.example", "HTTP_PORT": "8080"}
PROCESSES = [(service, name) for service in SERVICES for name in commands(service)]
SETUP = REPOSITORY / "deploy/setup"
STEPS = {
    "prepare": ([sys.executable, str(SETUP / "prepare.py")], ("POSTGRES_PASSWORD", "RABBITMQ_DEFAULT_PASS")),
    "postgres-setup": (
        ["sh", str(REPOSITORY / "database/init-scripts/10-roles-and-databases.sh")],
        ("POSTGRES_PASSWORD", "USER_DB_PASSWORD", "NOTIFICATION_DB_PASSWORD"),
    ),
    "rabbitmq-login": (["bash", str(SETUP / "rabbitmq-login.sh")], ("RABBITMQ_DEFAULT_PASS",)),
    "rabbitmq-setup": (
        [sys.executable, str(SETUP / "rabbitmq.py")],
        ("RABBITMQ_DEFAULT_PASS", "USER_AMQP_PASSWORD", "NOTIFICATION_AMQP_PASSWORD"),
    ),
}


def assert_refused(
    command: list[str], variables: Mapping[str, str], folder: Path, words: str, published: str
) -> None:
    """Run a command that must end within 10 s, say these words, and show no secret."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Twice the promised time, for a machine that is busy with other tests; what it worked for is exact.
    done = subprocess.run(
        command, cwd=folder, env=dict(variables), capture_output=True, text=True, check=False, timeout=20
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10
    assert words in said
    assert "Traceback" not in said
    assert [secret for secret in (*STRONG.values(), published) if secret and secret in said] == []


@pytest.mark.parametrize(("service", "process"), PROCESSES)
def test_a_process_of_a_service(service: str, process: str, tmp_path: Path) -> None:
    published = EXAMPLE[f"{service.upper()}_AMQP_PASSWORD"]
    settings = Settings(PRODUCTION)
    place = Place(
        Layout(tmp_path, tmp_path), choose_ports(settings), REPOSITORY, Path(sys.prefix), "https://x.example"
    )
    variables = environment(service, settings, place)
    variables |= {"PATH": os.environ["PATH"], "LOG_DIR": str(tmp_path)}
    program, *arguments = commands(service)[process]
    # A worker goes without, the others with what everybody knows.
    variables["AMQP_PASSWORD"] = "" if process.endswith("-worker") else published
    assert_refused(
        [str(Path(sys.executable).with_name(program)), *arguments],
        variables,
        REPOSITORY / f"{service}-service",
        "APP_ENV=production, but AMQP_PASSWORD is missing or still the example's value.",
        published,
    )


def test_celery_is_among_them() -> None:
    assert ("notification", CELERY) in PROCESSES


@pytest.mark.parametrize(
    ("step", "name"), [(step, name) for step, (_, names) in STEPS.items() for name in names]
)
@pytest.mark.parametrize("value", ["example", "missing"])
def test_a_set_up_step(step: str, name: str, value: str, tmp_path: Path) -> None:
    variables = PRODUCTION | {"PATH": os.environ["PATH"], "ROOT": str(tmp_path)}
    variables |= {name: EXAMPLE[name] if value == "example" else ""}
    assert_refused(STEPS[step][0], variables, tmp_path, name, EXAMPLE[name])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["POSTGRES_PASSWORD", "REDIS_PASSWORD", "ADMIN_PASSWORD", "ORDER_USER_KEY"])
@pytest.mark.parametrize("value", ["example", "missing"])
def test_the_start_without_docker(name: str, value: str, tmp_path: Path) -> None:
    settings = PRODUCTION | {name: EXAMPLE[name] if value == "example" else ""}
    (tmp_path / ".env").write_text("".join(f"{key}={text}\n" for key, text in settings.items()))
    command = [sys.executable, "-m", "deploy.local", "--root", str(tmp_path), "up"]
    words = f"APP_ENV=production, but {name} in .env is missing or still the example's: choose another."
    assert_refused(command, {"PATH": os.environ["PATH"]}, REPOSITORY, words, EXAMPLE[name])
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


@pytest.mark.parametrize("step", ["postgres-setup", "rabbitmq-login", "rabbitmq-setup", "prepare"])
def test_a_set_up_step_reads_files_and_refuses_both(step: str, tmp_path: Path) -> None:
    command, (name, *_) = STEPS[step]
    (tmp_path / "secret").write_text(EXAMPLE[name] + "\n")
    variables = PRODUCTION | {"PATH": os.environ["PATH"], "ROOT": str(tmp_path / "suite")}
    by_file = variables | {f"{name}_FILE": str(tmp_path / "secret")}
    both = f"Both {name} and {name}_FILE are set"
    assert_refused(command, by_file, tmp_path, both, EXAMPLE[name])
    assert_refused(command, by_file | {name: ""}, tmp_path, f"APP_ENV=production, but {name}", EXAMPLE[name])
    absent = variables | {f"{name}_FILE": str(tmp_path / "nothing"), name: ""}
    assert_refused(command, absent, tmp_path, f"{name}_FILE names a file that can't be read", EXAMPLE[name])
