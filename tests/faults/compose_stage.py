"""The suite in containers, beside any other: with a project, a network, images and ports of its own."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.compose_override import PYTHON, SERVICES, lay_wires, make_override
from tests.faults.proxy import Wire, write_wires
from tests.faults.stage import (
    COMPONENTS,
    SLOWNESS,
    Blow,
    Ran,
    Stage,
    StageError,
    copy_repository,
    write_settings,
)

LAB_PORTS = ("LAB_BANK_PORT", "LAB_MAILS_PORT", "LAB_CONTROL_PORT", "LAB_WAY_IN_PORT")
# How the shop finds the judges.
JUDGES = {"PAYMENT_HTTP_URL": "http://bank:8090", "SMTP_HOST": "mail-sink", "SMTP_PORT": "1025"}
PATIENCE = 900
BY_HAND = (
    "The engine's processes were out of the lab's reach: kill was `docker kill`, then `docker start`,"
    " so that the restart policy was not put to the test"
)


@dataclass
class ComposeStage(Stage):
    """A stage whose components are containers."""

    project: str = ""
    _containers: dict[str, str] = field(default_factory=dict, repr=False)

    def blow(self, component: str, fault: str) -> Blow:
        """Prepare one of the five faults."""
        return {
            "kill": self._kill,
            "stop": self._stop,
            "pause": self._pause,
            "cut": self._cut,
            "slow": self._slow,
        }[fault](component)

    def _kill(self, component: str) -> Blow:
        """Kill the first process of the container, with which the kernel ends all others of it."""
        container = self._containers[component]
        pid = int(docker("inspect", "--format", "{{.State.Pid}}", container))
        if may_kill(pid, container):
            return Blow(lambda: os.kill(pid, signal.SIGKILL), lambda: self.await_return(component))
        # The engine's processes are out of reach; it takes this for an operator's wish, and restarts nothing.
        if BY_HAND not in self.notes:
            self.notes.append(BY_HAND)
        by_hand = f"{component} was brought back by `docker start`, and is to come back by itself"
        return Blow(lambda: docker("kill", container), lambda: self._start(component), by_hand)

    def _stop(self, component: str) -> Blow:
        container = self._containers[component]
        return Blow(lambda: docker("stop", container), lambda: self._start(component))

    def _start(self, component: str) -> None:
        docker("start", self._containers[component])
        self.await_return(component)

    def _pause(self, component: str) -> Blow:
        container = self._containers[component]
        return Blow(lambda: docker("pause", container), lambda: docker("unpause", container))

    def _cut(self, component: str) -> Blow:
        container = self._containers[component]
        name = docker("inspect", "--format", "{{.Name}}", container)
        # All the names that it goes by: the service's, the container's, and those that the engine made up.
        names = {component, name.lstrip("/"), *self._aliases(container)}
        aliases = [word for alias in sorted(names) for word in ("--alias", alias)]

        def connect() -> None:
            docker("network", "connect", *aliases, self.project, container)
            if missing := names - self._aliases(container):
                raise StageError(f"{component} is not back on the network as {', '.join(sorted(missing))}.")

        return Blow(lambda: docker("network", "disconnect", self.project, container), connect)

    def _aliases(self, container: str) -> set[str]:
        """Return the names that the engine now resolves to a container; none when it is cut off."""
        networks = json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", container))
        return set(networks.get(self.project, {}).get("Aliases") or ())

    def _slow(self, component: str) -> Blow:
        before = self._delay(component, 0)

        def heal() -> None:
            if self._delay(component, 0) <= before:
                raise StageError(f"{component} was not slow: it sent nothing that could have been delayed.")

        return Blow(lambda: self._delay(component, SLOWNESS), heal)

    def _delay(self, component: str, seconds: float) -> int:
        """Delay what a component sends from now on; return how many bytes of it ever were delayed."""
        order = json.dumps({"component": component, "seconds": seconds})
        with socket.create_connection(("127.0.0.1", int(self.env["LAB_CONTROL_PORT"])), 10) as control:
            control.sendall(order.encode() + b"\n")
            answer = json.loads(control.makefile().readline())
        if not answer["wires"]:
            raise StageError(f"No wire leads to or from {component}.")
        delayed: int = answer["delayed"]
        return delayed

    def lives(self) -> dict[str, str]:
        """Tell runs apart by the moment at which the engine started them."""
        containers = [self._containers[name] for name in self.components]
        # The id before it, for nothing is said of one that does not run.
        state = "{{.Id}} {{if .State.Running}}{{.State.StartedAt}}{{end}}"
        lines = docker("inspect", "--format", state, *containers).splitlines()
        started = {container: at for container, _, at in (line.partition(" ") for line in lines)}
        return {name: started[container] for name, container in zip(self.components, containers, strict=True)}

    def versions(self) -> dict[str, str]:
        """Name the engine and Compose."""
        return {
            "Docker Engine": docker("version", "--format", "{{.Server.Version}}"),
            "Compose": self.compose("version", "--short").strip(),
        }

    def run_beside(self, service: str, *words: str) -> Ran:
        """Run a command in the container of a service."""
        done = subprocess.run(
            ["docker", "exec", self._containers[service], *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Ran(done.returncode, done.stdout + (done.stderr if done.returncode else ""))

    def compose(self, *arguments: str) -> str:
        """Run Compose in the stage's folder."""
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        program = ["docker", "compose"] if plugin.returncode == 0 else ["docker-compose"]
        return run([*program, *arguments], self.folder, self.project)

    def find_containers(self) -> None:
        """Look up the container of each component."""
        ours = f"label=com.docker.compose.project={self.project}"
        shown = '{{.Label "com.docker.compose.service"}} {{.ID}}'
        listed = docker("ps", "--no-trunc", "--filter", ours, "--format", shown)
        self._containers = dict(line.split() for line in listed.splitlines())

    def close(self) -> None:
        """Remove containers, network, images and folder."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "10")
        images = [f"{self.project}/{service}" for service in SERVICES]
        subprocess.run(["docker", "image", "rm", "--force", *images], capture_output=True, check=False)
        keep_logs(self.folder)
        # What containers wrote belongs to their users, so a container deletes it.
        mount = f"{self.folder.parent}:/stages"
        docker(
            "run",
            "--rm",
            "--network",
            "none",
            "--volume",
            mount,
            PYTHON,
            "rm",
            "-rf",
            f"/stages/{self.folder.name}",
        )


def may_kill(pid: int, container: str) -> bool:
    """Tell whether this is really the container's process, and ours to end."""
    try:
        is_its_own = container in Path(f"/proc/{pid}/cgroup").read_text()
        os.kill(pid, 0)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return is_its_own


def docker(*arguments: str) -> str:
    """Run a command of the engine."""
    return run(["docker", *arguments]).strip()


def run(command: Sequence[str], folder: Path | None = None, project: str = "") -> str:
    """Run a command and return what it prints; nothing of the caller's shell changes the stage's settings."""
    passed = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME") or k.startswith("DOCKER_")}
    done = subprocess.run(
        command,
        cwd=folder,
        env=passed | ({"COMPOSE_PROJECT_NAME": project, "MODE": "docker"} if project else {}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode != 0:
        raise StageError(f"{' '.join(command[:4])}: {(done.stderr or done.stdout).strip()[-1500:]}")
    return done.stdout


def keep_logs(folder: Path) -> None:
    """Leave the logs to whoever looks for the reason of a red cell."""
    kept = folder.parent / "logs-docker"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(folder / "logs", kept, ignore_dangling_symlinks=True, dirs_exist_ok=True)


def start_compose_stage(*, wired: bool) -> ComposeStage:
    """Start the suite in containers; only with wires between them can they be made slow."""
    project = f"ecommerce-faults-{secrets.token_hex(3)}"
    folder = copy_repository(project)
    env = write_settings(folder, LAB_PORTS, **JUDGES)
    wires = lay_wires() if wired else []
    write_wires(folder / "wires.json", wires)
    lead_nginx(folder, wires)
    override = make_override(project, env, wires)
    (folder / "docker-compose.override.yml").write_text(json.dumps(override, indent=1))
    stage = describe(project, folder, env, wired=wired)
    try:
        run(["scripts/suite.sh", "up"], folder, project)
        stage.find_containers()
    except BaseException:
        stage.close()
        raise
    return stage


def describe(project: str, folder: Path, env: Mapping[str, str], *, wired: bool) -> ComposeStage:
    """Say where everything of a stage answers."""
    local = "http://127.0.0.1:"
    return ComposeStage(
        url=local + env["LAB_WAY_IN_PORT" if wired else "HTTP_PORT"],
        env=env,
        bank_url=local + env["LAB_BANK_PORT"],
        mail_sink_url=local + env["LAB_MAILS_PORT"],
        folder=folder,
        faults=("slow",) if wired else ("kill", "stop", "pause", "cut"),
        components=COMPONENTS,
        project=project,
    )


def lead_nginx(folder: Path, wires: Sequence[Wire]) -> None:
    """Have the copy's Nginx call the services by its wires."""
    path = folder / "nginx/docker/http.conf"
    text = path.read_text()
    for wire in wires:
        if wire.client == "nginx":
            direct = f"{wire.server}:{wire.server_port};"
            if direct not in text:
                raise StageError(f"{path} does not say {direct} and nothing would pass by that wire.")
            text = text.replace(direct, f"wires:{wire.port};")
    path.write_text(text)
