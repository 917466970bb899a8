"""Nginx as a plain process: the configuration of nginx/ with a `mode/` of its own (see nginx.conf's head)."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local import accounts, binaries
from deploy.local.errors import SetupError
from deploy.local.programs import Program, base_environment, fingerprint

MAIN = """\
{user}
pid {folder}/nginx.pid;
error_log {logs}/error.log warn;
"""
HTTP = """\
access_log {logs}/access.log json;
client_body_temp_path {folder}/temp/body;
proxy_temp_path {folder}/temp/proxy;
fastcgi_temp_path {folder}/temp/fastcgi;
uwsgi_temp_path {folder}/temp/uwsgi;
scgi_temp_path {folder}/temp/scgi;
"""
UPSTREAM = """\
map "" ${service}_service {{ default 127.0.0.1:{port}; }}
"""
PUBLIC = """\
listen {http_port};
listen {https_port} ssl;
ssl_certificate {tls}/cert.pem;
ssl_certificate_key {tls}/key.pem;
"""


# What nginx/settings.sh reads.
SETTINGS = (
    "EDGE_LIMIT_LOGIN", "EDGE_LIMIT_WRITE", "EDGE_LIMIT_READ", "EDGE_LIMIT_DOCS", "EDGE_LIMIT_CONNECTIONS",
    "CORS_ORIGINS", "HSTS_SECONDS",
)  # fmt: skip


@dataclass(frozen=True)
class Upstream:
    """Say where a service really listens, and on which port clients find it through Nginx."""

    port: int
    public_port: int


@dataclass(frozen=True)
class Nginx:
    """Say where Nginx finds the shared configuration, where it keeps its own files, and where it listens."""

    shared: Path
    folder: Path
    logs: Path
    tls: Path
    http_port: int
    https_port: int
    services: Mapping[str, Upstream]
    settings: Mapping[str, str]

    def prepare(self) -> tuple[Program, Program]:
        """Write what differs, link the rest, and return the server and the rotation of its logs."""
        worker = accounts.account("www-data")
        accounts.own(self.folder, accounts.caller(), 0o711)
        accounts.own(self.folder / "temp", worker)
        self._link_shared()
        mode = accounts.own(self.folder / "mode", accounts.caller(), 0o755)
        files = self._mode()
        for name, text in files.items():
            (mode / name).write_text(text)
        return self._server(fingerprint(*files.values())), self._rotation()

    def _link_shared(self) -> None:
        for entry in self.shared.iterdir():
            link = self.folder / entry.name
            if link.name not in ("mode", "temp"):
                link.unlink(missing_ok=True)
                link.symlink_to(entry)

    def _mode(self) -> dict[str, str]:
        # Only root's server hands its requests to processes of another user.
        user = f"user {accounts.account('www-data').name};" if os.geteuid() == 0 else ""
        upstreams = "".join(
            UPSTREAM.format(service=name, port=upstream.port) for name, upstream in self.services.items()
        )
        ports = {"http_port": self.http_port, "https_port": self.https_port}
        return {
            "main.conf": MAIN.format(user=user, folder=self.folder, logs=self.logs),
            "http.conf": HTTP.format(folder=self.folder, logs=self.logs) + upstreams,
            "public.conf": PUBLIC.format(tls=self.tls, **ports),
            "ports.conf": self._ports(),
            "settings.conf": self._settings(),
        }

    def _ports(self) -> str:
        """Return Docker's servers on the services' own ports, moved to those of the settings."""
        text = (self.shared / "docker/ports.conf").read_text()
        ports = iter(upstream.public_port for upstream in self.services.values())
        return re.sub(r"\blisten \d+;", lambda _: f"listen 127.0.0.1:{next(ports)};", text)

    def _settings(self) -> str:
        command = ["/bin/sh", str(self.shared / "settings.sh")]
        environment = base_environment(self.folder) | dict(self.settings)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SetupError(done.stderr.strip())
        return done.stdout

    def _server(self, content: str) -> Program:
        configuration = str(self.folder / "nginx.conf")
        command = (str(binaries.find("nginx")), "-e", f"{self.logs}/error.log", "-c", configuration)
        # A supervisor restarts what is described otherwise than before, so the description names the content.
        environment = base_environment(self.folder) | {"CONFIGURATION": content}
        return Program(
            "nginx",
            (*command, "-g", "daemon off;"),
            accounts.caller(),
            self.folder,
            environment,
            stop_signal="QUIT",
            stop_seconds=15,
            priority=20,
        )

    def _rotation(self) -> Program:
        script = self.shared / "rotate-logs.sh"
        command = ("/bin/sh", str(script), str(self.logs), f"{self.folder}/nginx.pid")
        return Program("nginx-logs", command, accounts.caller(), self.folder, base_environment(self.folder))
