"""What every stage counts, and what one of containers puts over the suite's own Compose file."""

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
import yaml  # type: ignore[import-untyped]

from tests.faults import attempt as attempt_module
from tests.faults import compose_stage
from tests.faults.afterwards import RECONCILED, reconcile
from tests.faults.attempt import Attempt
from tests.faults.calls import Call, Record, Try
from tests.faults.compose_override import ADDRESSES, PORTS, PROCESSES, lay_wires, make_override
from tests.faults.compose_stage import ComposeStage, lead_nginx
from tests.faults.load import Load
from tests.faults.rest import Rest
from tests.faults.stage import (
    COMPONENTS,
    REPOSITORY,
    SERVICES,
    Blow,
    Ran,
    Stage,
    StageError,
    write_settings,
)

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


class Rehearsal(Stage):
    """A stage on which nothing runs: the test says which life each component lives."""

    def __init__(self) -> None:
        super().__init__("", {}, "", "", Path(), ("kill",), ("nginx", "postgres"))
        self.now = {"nginx": "first", "postgres": "first"}

    def blow(self, component: str, fault: str) -> Blow:
        return Blow(lambda: self.now.update({component: ""}), lambda: self.await_return(component))

    def lives(self) -> dict[str, str]:
        return dict(self.now)

    def versions(self) -> dict[str, str]:
        return {}

    def run_beside(self, service: str, *words: str) -> Ran:
        return Ran(1, f"{service} {' '.join(words)}\ndrift 1\n")

    def close(self) -> None:
        pass


def test_a_restart_by_the_lab_is_not_counted() -> None:
    stage = Rehearsal()
    stage.begin_watch()
    with stage.blow("nginx", "kill"):
        stage.now["nginx"] = "second"
    assert stage.restarts() == {"nginx": 0, "postgres": 0}


def test_every_other_restart_is_counted_once() -> None:
    stage = Rehearsal()
    stage.begin_watch()
    with stage.blow("nginx", "kill"):
        stage.now |= {"nginx": "second", "postgres": "second"}
    assert stage.restarts() == {"nginx": 0, "postgres": 1}
    assert stage.restarts() == {"nginx": 0, "postgres": 1}
    # It ends again after the lab's own restart, and once more.
    stage.now["nginx"] = "third"
    assert stage.restarts() == {"nginx": 1, "postgres": 1}
    stage.now["nginx"] = "fourth"
    assert stage.restarts() == {"nginx": 2, "postgres": 1}


def test_a_component_that_stays_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.faults.stage.SECONDS_TO_RETURN", 0.1)
    stage = Rehearsal()
    stage.begin_watch()
    with pytest.raises(StageError, match="nginx did not come back"), stage.blow("nginx", "kill"):
        pass


def test_a_stage_has_ports_and_secrets_of_its_own_and_no_limits(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text("APP_ENV=production\nLIMIT_X=5\nHTTP_PORT=80\nSMTP_PORT=25\n")
    settings = write_settings(tmp_path, ["LAB_PORT"], SMTP_PORT="{LAB_PORT}")
    assert (settings["APP_ENV"], settings["LIMIT_X"]) == ("development", "0")
    assert settings["SMTP_PORT"] == settings["LAB_PORT"] != settings["HTTP_PORT"] != "80"
    assert f"HTTP_PORT={settings['HTTP_PORT']}\n" in (tmp_path / ".env").read_text()
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


class Engine:
    """A Docker engine of two containers, one of which does not run; what it is told is kept."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []
        self.started = {"a" * 64: "2026-01-01T00:00:00Z", "b" * 64: ""}
        self.aliases = ["redis", "lab-redis-1", "aaaa"]

    def __call__(self, *arguments: str) -> str:
        self.told.append(arguments)
        if arguments[0] != "inspect":
            return ""
        _, _, form, *containers = arguments
        if "Pid" in form:
            return "4194999"
        if "Networks" in form:
            return json.dumps({"lab": {"Aliases": self.aliases}})
        if "Name" in form:
            return "/lab-redis-1"
        shown = form.partition("{{if")[0]
        lines = [f"{shown.replace('{{.Id}}', one)}{self.started[one]}" for one in containers]
        return "\n".join(lines).strip()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Put a made-up engine in the place of Docker's."""
    made = Engine()
    monkeypatch.setattr(compose_stage, "docker", made)
    return made


def in_containers() -> ComposeStage:
    """Make a stage of that engine's two containers."""
    stage = ComposeStage("", {}, "", "", Path(), ("kill",), ("redis", "nginx"), project="lab")
    stage._containers = {"redis": "a" * 64, "nginx": "b" * 64}
    return stage


def test_a_container_that_does_not_run_takes_nobody_else_s_life(engine: Engine) -> None:
    stage = in_containers()
    assert stage.lives() == {"redis": "2026-01-01T00:00:00Z", "nginx": ""}
    engine.started = dict.fromkeys(engine.started, "") | {"b" * 64: "2026-01-01T00:00:09Z"}
    assert stage.lives() == {"redis": "", "nginx": "2026-01-01T00:00:09Z"}
    engine.started = dict.fromkeys(engine.started, "")
    assert stage.lives() == {"redis": "", "nginx": ""}


def test_a_kill_that_the_restart_policy_can_not_answer_is_noted_once(engine: Engine) -> None:
    stage = in_containers()
    stage._kill("redis").strike()
    stage._kill("nginx").strike()
    assert ("kill", "a" * 64) in engine.told
    assert stage.notes == [compose_stage.BY_HAND]


def test_a_kill_of_the_process_itself_needs_no_note(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose_stage, "may_kill", lambda pid, container: True)
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(compose_stage.os, "kill", lambda pid, number: killed.append((pid, number)))
    stage = in_containers()
    stage._kill("redis").strike()
    assert killed == [(4194999, signal.SIGKILL)]
    assert stage.notes == []


def test_a_cut_is_over_only_when_all_names_are_back(engine: Engine) -> None:
    with in_containers()._cut("redis"):
        pass
    assert ("network", "disconnect", "lab", "a" * 64) in engine.told
    connected = next(words for words in engine.told if words[:2] == ("network", "connect"))
    assert {"redis", "lab-redis-1", "aaaa"} <= set(connected)
    with (
        pytest.raises(StageError, match="redis is not back on the network as lab-redis-1"),
        in_containers()._cut("redis"),
    ):
        engine.aliases = ["redis", "aaaa"]


def test_a_cut_after_which_the_network_is_gone_is_told(engine: Engine) -> None:
    with pytest.raises(StageError, match="not back on the network"), in_containers()._cut("redis"):
        engine.aliases = []


class NoLoad:
    """A load of which nothing comes but what the test says: how many are in flight after each burst."""

    def __init__(self, *met: int) -> None:
        self.met = list(met) or [14]
        self.record = Record()

    def burst(self, number: int) -> int:
        return self.met.pop(0)

    def stop(self) -> None:
        pass

    def settle(self) -> int:
        return 0


def test_what_does_not_heal_is_a_trouble_of_its_cell_and_no_end_of_the_run(engine: Engine) -> None:
    attempt = Attempt(in_containers(), cast(Load, NoLoad()), "redis", "cut")
    with attempt.blow("cut"):
        engine.aliases = ["redis", "aaaa"]
    assert attempt.troubles == ["redis is not back on the network as lab-redis-1."]
    assert attempt.healed >= attempt.struck > 0


@pytest.mark.parametrize(
    ("met", "left"), [([14, 9], [9]), ([0, 5, 9], [9]), ([4, 4, 14, 9], [9]), ([0, 0, 0, 9], [9])]
)
def test_a_burst_that_puts_too_few_in_flight_is_sent_again_three_times_at_most(
    met: list[int], left: list[int]
) -> None:
    load = NoLoad(*met)
    with struck(Rehearsal(), load) as attempt:
        assert len(attempt.strikes) == 1
    assert load.met == left


@contextmanager
def struck(stage: Stage, load: NoLoad) -> Iterator[Attempt]:
    """Kill Nginx on such a stage, which comes back."""
    attempt = Attempt(stage, cast(Load, load), "nginx", "kill")
    with attempt.blow("kill"):
        yield attempt
        if isinstance(stage, Rehearsal):
            stage.now["nginx"] = "second"


def test_a_blow_that_met_nothing_is_a_trouble_of_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_module, "SECONDS_AFTER", 0.0)
    monkeypatch.setattr(attempt_module, "wait_for_rest", lambda *_: Rest(True, 5.0, ""))
    monkeypatch.setattr(attempt_module, "check", lambda *_: [])
    load = NoLoad()
    with struck(Rehearsal(), load) as attempt:
        pass
    order = Call(1, "order", "POST", "/orders", 7, None, "key", True)
    order.tries.append(Try(attempt.strikes[0] + 0.1, attempt.strikes[0] + 1, "ok", 201))
    load.record.calls.append(order)
    missed = attempt.finish()
    assert (missed.troubles, missed.in_flight) == (["the blow met nothing"], 0)
    order.tries[0] = Try(attempt.strikes[0] - 0.1, attempt.strikes[0] + 1, "ok", 201)
    attempt.troubles = []
    met = attempt.finish()
    assert (met.troubles, met.in_flight) == ([], 1)


def test_what_needed_the_lab_s_hand_is_a_trouble_where_none_is_allowed(engine: Engine) -> None:
    allowed = Attempt(in_containers(), cast(Load, NoLoad()), "redis", "kill")
    with allowed.blow("kill"):
        pass
    assert allowed.troubles == []
    attempt = Attempt(in_containers(), cast(Load, NoLoad()), "redis", "kill × 5")
    with attempt.blow("kill", unaided=True):
        pass
    assert attempt.troubles == ["redis was brought back by `docker start`, and is to come back by itself"]


def test_what_came_back_by_itself_is_none(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose_stage, "may_kill", lambda pid, container: True)
    monkeypatch.setattr(compose_stage.os, "kill", lambda pid, number: None)
    attempt = Attempt(in_containers(), cast(Load, NoLoad()), "redis", "kill × 5")
    with attempt.blow("kill", unaided=True):
        pass
    assert attempt.troubles == []


class Wires(ComposeStage):
    """A stage whose wires have delayed so many bytes at each order."""

    delayed: Sequence[int] = ()

    def _delay(self, component: str, seconds: float) -> int:
        count, *self.delayed = self.delayed
        return count


@pytest.mark.parametrize(
    ("delayed", "troubles"),
    [
        ([70, 70, 71], []),
        ([70, 70, 70], ["nginx was not slow: it sent nothing that could have been delayed."]),
    ],
)
def test_a_slow_component_that_sent_nothing_is_a_trouble(delayed: list[int], troubles: list[str]) -> None:
    stage = Wires("", {}, "", "", Path(), ("slow",))
    stage.delayed = delayed
    attempt = Attempt(stage, cast(Load, NoLoad()), "nginx", "slow")
    with attempt.blow("slow"):
        pass
    assert attempt.troubles == troubles


def test_nginx_is_led_by_every_wire_of_its_own_or_the_stage_does_not_start(tmp_path: Path) -> None:
    conf = tmp_path / "nginx/docker/http.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text((REPOSITORY / "nginx/docker/http.conf").read_text())
    wires = lay_wires()
    lead_nginx(tmp_path, wires)
    assert all(f"wires:{wire.port};" in conf.read_text() for wire in wires if wire.client == "nginx")
    with pytest.raises(StageError, match="does not say user-service:5001;"):
        lead_nginx(tmp_path, wires)


def test_every_service_that_has_the_command_is_reconciled() -> None:
    have = {
        service
        for service in SERVICES
        for path in (REPOSITORY / service / service.replace("-", "_")).glob("*.py")
        if 'cli.command("reconcile")' in path.read_text()
    }
    assert set(RECONCILED) == have


def test_a_stage_is_reconciled_by_the_suite_s_own_command() -> None:
    (told,) = reconcile(Rehearsal())
    assert (told.service, told.status) == ("order-service", 1)
    assert told.output == "order-service flask reconcile\ndrift 1\n"
    assert told.verdict == "drift 1"


class Deadlock(Rehearsal):
    """A stage on which no command ends."""

    def run_beside(self, service: str, *words: str) -> Ran:
        raise subprocess.TimeoutExpired(["docker", "exec", service, *words], 900)


def test_books_that_are_never_done_comparing_are_told_as_what_does_not_hold() -> None:
    (told,) = reconcile(Deadlock())
    assert told.finding == "`flask reconcile` of the order-service: not over after 900 s"
