"""A TCP proxy between the parts of the suite that can be made slow while it runs.

    python -m tests.faults.proxy --wires wires.json --control 9000

Each wire is a port of its own that leads from one component to another. Whatever a slow component sends
arrives later, in order; nothing is lost. The control port takes one JSON object a line,
`{"component": "postgres", "seconds": 0.5}`, and answers `{"wires": 12, "delayed": 3456}`: how many that
concerns, and how many bytes that the component sent were delayed since the start.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

CHUNK = 64 * 1024
# What may be under way on a wire in one direction; then the sender has to wait, as on a real line.
CHUNKS_UNDER_WAY = 256

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Wire:
    """One client's way to one server: whoever connects to `port` is led to `host:server_port`."""

    client: str
    server: str
    host: str
    server_port: int
    port: int


class Proxy:
    """Carries what passes on all wires, later where a component is slow."""

    def __init__(self, wires: Sequence[Wire], host: str = "0.0.0.0") -> None:
        self.wires, self._host = wires, host
        self._delays: dict[str, float] = {}
        self._delayed: Counter[str] = Counter()
        self._servers: list[asyncio.Server] = []

    async def start(self, control: int) -> None:
        """Listen on the port of every wire and on the control port."""
        for wire in self.wires:
            await self._listen(partial(self._carry, wire), wire.port)
        await self._listen(self._obey, control)

    async def _listen(self, handle: Handle, port: int) -> None:
        self._servers.append(await asyncio.start_server(handle, self._host, port))

    def slow_down(self, component: str, seconds: float) -> int:
        """Delay what a component sends from now on; return how many wires it has."""
        self._delays[component] = seconds
        return sum(component in (wire.client, wire.server) for wire in self.wires)

    async def _obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            order = json.loads(line)
            count = self.slow_down(order["component"], float(order["seconds"]))
            answer = {"wires": count, "delayed": self._delayed[order["component"]]}
            writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()

    async def _carry(self, wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward = await asyncio.open_connection(wire.host, wire.server_port)
        except OSError:
            _reset(writer)
            return
        there = self._pass_on(wire.client, reader, onward[1])
        back = self._pass_on(wire.server, onward[0], writer)
        try:
            await asyncio.gather(there, back)
        except OSError:
            _reset(writer)
            _reset(onward[1])
        finally:
            writer.close()
            onward[1].close()

    async def _pass_on(self, sender: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what `sender` says until it has said all, each piece when it is due."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_UNDER_WAY)
        delivery = asyncio.create_task(_deliver(under_way, writer))
        now = asyncio.get_running_loop().time
        try:
            while not delivery.done():
                data = await reader.read(CHUNK)
                delay = self._delays.get(sender, 0.0)
                await under_way.put((now() + delay, data))
                if delay:
                    self._delayed[sender] += len(data)
                if not data:
                    break
            await delivery
        finally:
            delivery.cancel()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as a crash does; to a refused one it is as near as whoever has accepted can come."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _deliver(under_way: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
    now = asyncio.get_running_loop().time
    while True:
        due, data = await under_way.get()
        if due > now():
            await asyncio.sleep(due - now())
        if not data:
            # Sockets that are closed already need no end.
            with contextlib.suppress(OSError):
                writer.write_eof()
            return
        writer.write(data)
        await writer.drain()


def write_wires(path: Path, wires: Sequence[Wire]) -> None:
    """Write the file that the proxy reads."""
    path.write_text(json.dumps([asdict(wire) for wire in wires], indent=1))


async def serve(wires: Sequence[Wire], control: int) -> None:
    """Carry until told to end."""
    proxy, ended = Proxy(wires), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await proxy.start(control)
    await ended.wait()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description="Carry TCP connections, slowly where told so.")
    parser.add_argument("--wires", type=Path, required=True, help="JSON list of wires")
    parser.add_argument("--control", type=int, required=True)
    options = parser.parse_args()
    wires = [Wire(**entry) for entry in json.loads(options.wires.read_text())]
    asyncio.run(serve(wires, options.control))


if __name__ == "__main__":
    main()
