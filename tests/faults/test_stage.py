"""What a stage of containers puts over the suite's own Compose file."""

import yaml  # type: ignore[import-untyped]

from tests.faults.compose_override import ADDRESSES, PORTS, PROCESSES, lay_wires, make_override
from tests.faults.stage import COMPONENTS, REPOSITORY

COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
ENV = {name: name for name in ("LAB_BANK_PORT", "LAB_MAILS_PORT", "LAB_CONTROL_PORT", "LAB_WAY_IN_PORT")}
ENV |= {"PAYMENT_HTTP_KEY": "key", "PAYMENT_HTTP_WEBHOOK_SECRET": "secret"}


def test_every_component_is_a_service_that_stays_up() -> None:
    lasting = {name for name, service in COMPOSE.items() if service.get("restart") != "no"}
    assert lasting - {"maildev"} == set(COMPONENTS)


def test_every_component_has_a_wire_to_be_slow_on() -> None:
    assert {end for wire in lay_wires() for end in (wire.client, wire.server)} >= set(COMPONENTS)


def test_every_address_that_a_process_is_given_leads_to_a_wire() -> None:
    override = make_override("lab", ENV, lay_wires())["services"]
    for process in PROCESSES:
        given = COMPOSE[process]["environment"].keys() & {
            name for names in ADDRESSES.values() for name in names
        }
        # A process is also given what its image shares with another one, which it never calls.
        led = override[process]["environment"]
        assert led.keys() <= given | {"PAYMENT_HTTP_URL"}, process
        assert all("wires" in str(led[name]) for name in led if not name.endswith("_PORT"))


def test_a_wire_leads_where_its_server_listens() -> None:
    wires = lay_wires()
    assert len({wire.port for wire in wires}) == len(wires)
    assert all(wire.server_port == PORTS[wire.server] for wire in wires)


def test_no_image_of_the_lab_is_one_of_the_suite() -> None:
    override = make_override("lab", ENV, [])["services"]
    for name, service in COMPOSE.items():
        if service["image"].startswith("ecommerce-basic/"):
            assert override[name]["image"].startswith("lab/"), name


def test_without_wires_all_talk_directly() -> None:
    services = make_override("lab", ENV, [])["services"]
    assert not any("environment" in services[process] for process in PROCESSES)
    assert "wires" not in services
