"""What docker-compose.yml and .env.example promise, read without an engine."""

import re
from typing import Any

import pytest
import yaml

from chassis.config import is_example
from deploy.setup.checks import SECRETS
from tests.servers import REPOSITORY

COMPOSE = (REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8")
EXAMPLE = (REPOSITORY / ".env.example").read_text(encoding="utf-8").splitlines()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
ONCE = {"prepare", "postgres-setup", "rabbitmq-login", "rabbitmq-setup"}
OWN = {name for name, service in SERVICES.items() if service["image"].startswith("ecommerce-basic/")} - ONCE
LASTING = set(SERVICES) - ONCE
# What the official entrypoints need to hand over a folder and become their own user.
HAND_OVER = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
CAPABILITIES = {
    "postgres": HAND_OVER,
    "redis": HAND_OVER | {"SETPCAP"},
    "rabbitmq": HAND_OVER,
    "nginx": {"CHOWN", "DAC_OVERRIDE", "NET_BIND_SERVICE", "SETGID", "SETUID"},
    "prepare": {"CHOWN", "DAC_OVERRIDE"},
}
# Official images whose entrypoints or tools write into the image's own folders.
WRITABLE = {"postgres", "redis", "rabbitmq", "rabbitmq-login"}
SETTINGS = {line.partition("=")[0]: line.partition("=")[2] for line in EXAMPLE if re.match(r"[A-Z]", line)}
SECRET = re.compile(r"PASSWORD|_PASS$|SECRET|_KEY$")


def used_settings(text: str) -> set[str]:
    return set(re.findall(r"(?<!\$)\$\{(\w+)", text))


def test_each_variable_of_the_compose_file_is_in_the_example_and_the_other_way_round() -> None:
    assert used_settings(COMPOSE) == set(SETTINGS)


def test_each_setting_stands_once_with_a_comment_above_and_a_plain_value() -> None:
    lines = [number for number, line in enumerate(EXAMPLE) if re.match(r"[A-Z]", line)]
    assert len(lines) == len(SETTINGS)
    for number in lines:
        assert EXAMPLE[number - 1].startswith("# "), EXAMPLE[number]
        assert re.fullmatch(r"[A-Z0-9_]+=[^\s\"'$#]*", EXAMPLE[number]), EXAMPLE[number]


def test_published_secrets_are_known_as_such() -> None:
    assert not [name for name in SETTINGS if SECRET.search(name) and not is_example(SETTINGS[name])]


@pytest.mark.parametrize("name", sorted(LASTING))
def test_each_container_is_bounded_watched_and_without_privileges(name: str) -> None:
    service = SERVICES[name]
    assert {"mem_limit", "cpus", "pids_limit", "healthcheck"} <= set(service)
    assert service["restart"] == "unless-stopped"
    assert service["logging"]["options"] == {"max-size": "20m", "max-file": "5"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["depends_on"]["prepare"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_container_has_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert {"mem_limit", "cpus", "pids_limit"} <= set(service)
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service.get("cap_add", [])) == CAPABILITIES.get(name, set())
    assert not {"privileged", "devices", "pid", "ipc", "userns_mode", "extra_hosts"} & set(service)
    assert service.get("network_mode", "none") == "none"
    mounted = [volume.partition(":")[0] for volume in service.get("volumes", [])]
    assert [path for path in mounted if not path.startswith("./") and path != "postgres-socket"] == []
    assert service.get("read_only", False) is (name not in WRITABLE)


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"prepare"}))
def test_only_official_images_and_the_preparation_start_as_root(name: str) -> None:
    service = SERVICES[name]
    assert service.get("user") != "root"
    # They become their own users at once; the capabilities are for that alone.
    assert ("cap_add" in service) is (name in CAPABILITIES)


@pytest.mark.parametrize("service", ["user", "product", "order", "notification"])
def test_our_images_run_as_nobody_special(service: str) -> None:
    lines = (REPOSITORY / f"{service}-service/Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER app"]
    assert lines.index("USER app") > max(n for n, line in enumerate(lines) if line.startswith("RUN "))
    assert any("useradd --uid 10001" in line for line in lines)
    assert not any(line.startswith("ADD ") for line in lines)


def test_the_security_page_lists_each_capability() -> None:
    page = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| ((?:`[A-Z_]+`(?:, )?)+) \|", page, re.MULTILINE)
    listed = {name: set(re.findall(r"[A-Z_]+", capabilities)) for name, capabilities in rows}
    assert listed == CAPABILITIES


@pytest.mark.parametrize("name", sorted(OWN))
def test_our_own_containers_can_be_scaled_and_write_nowhere_else(name: str) -> None:
    service = SERVICES[name]
    assert not {"container_name", "ports", "cap_add", "user"} & set(service)
    assert service["read_only"] is True


def test_only_the_shop_is_published_beyond_this_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    public = [port for port in ports if not port.startswith("127.0.0.1:")]
    assert public == ["${HTTP_PORT:-80}:80", "${HTTPS_PORT:-443}:443"]


def test_a_service_gets_no_secret_of_another() -> None:
    common = {"REDIS_PASSWORD"}
    shared = {
        "user": {"ORDER_USER_KEY", "NOTIFICATION_USER_KEY", "ADMIN_PASSWORD", "KEY_ENCRYPTION_SECRET"},
        "product": {"ORDER_PRODUCT_KEY"},
        "order": {
            "ORDER_PRODUCT_KEY", "ORDER_USER_KEY", "ORDER_NOTIFICATION_KEY",
            "PAYMENT_SANDBOX_WEBHOOK_SECRET", "PAYMENT_HTTP_KEY", "PAYMENT_HTTP_WEBHOOK_SECRET",
        },
        "notification": {
            "NOTIFICATION_USER_KEY", "ORDER_NOTIFICATION_KEY", "SMTP_PASSWORD", "VAPID_PRIVATE_KEY",
            "ALIYUN_ACCESS_KEY_SECRET",
        },
    }  # fmt: skip
    for name in OWN:
        service = name.partition("-")[0]
        got = {key for key in used_settings(str(SERVICES[name]["environment"])) if SECRET.search(key)}
        own = {f"{service.upper()}_DB_PASSWORD", f"{service.upper()}_AMQP_PASSWORD"}
        assert got == common | own | shared[service]


@pytest.mark.parametrize("name", SECRETS)
def test_a_changed_secret_changes_the_containers_that_use_it(name: str) -> None:
    # Compose makes a container anew when its description differs, and no other.
    users = {who for who, service in SERVICES.items() if name in used_settings(str(service))}
    assert users - {"prepare"}
    for who in users:
        assert name in used_settings(str(SERVICES[who]["environment"]))


def test_no_image_of_ours_is_ever_pulled() -> None:
    # Compose would look for it in the public registry before it builds it, and run what it finds there.
    ours = {name for name, service in SERVICES.items() if service["image"].startswith("ecommerce-basic/")}
    assert ours == {name for name, service in SERVICES.items() if service.get("pull_policy") == "never"}


def test_set_up_steps_are_waited_for() -> None:
    # `up --wait` takes the end of a container for a failure unless another one waits for just that.
    waited = {
        needed
        for service in SERVICES.values()
        for needed, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    assert waited == ONCE
