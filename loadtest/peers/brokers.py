"""The brokers people run: nchan in nginx, Mosquitto and NATS server, each with its documented best settings.

Settings are those their own manuals name for many idle subscribers: nothing is kept, nothing is logged, nothing
is compressed, no limit is met.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import ClassVar, Final

import httpx

from loadtest.lean import opening
from loadtest.peers.peer import PAYLOAD, Peer, Speaker

# Debian keeps servers in sbin, which the search path of an ordinary user leaves out.
_PATH: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))


def program(name: str) -> str:
    """Return where a program is, "" if it is not installed."""
    return shutil.which(name, path=_PATH) or ""


def _first_version(*command: str) -> str:
    """Return the first version number a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    found = re.search(r"\d+\.\d+[\w.-]*", done.stdout + done.stderr)
    return found.group() if found else "?"


class Nchan(Peer):
    """nchan, the publish/subscribe module of nginx."""

    name: ClassVar = "nchan"
    install: ClassVar = "apt-get install nginx libnginx-mod-nchan"
    settings: ClassVar = (
        "worker_processes 1; epoll, multi_accept on; worker_connections for all and an eighth more; "
        "backlog 4096; access_log off; nchan_store_messages off; no deflate, no pings; "
        "published by HTTP POST on a kept connection"
    )

    @classmethod
    def installed(cls) -> bool:
        return bool(program("nginx")) and cls._module() is not None

    @classmethod
    def _module(cls) -> Path | None:
        """Return the module's file, where this nginx looks for its modules."""
        told = subprocess.run(
            [program("nginx"), "-V"], capture_output=True, text=True, timeout=20, check=False
        ).stderr
        found = re.search(r"--modules-path=(\S+)", told)
        path = Path(found.group(1) if found else "/usr/lib/nginx/modules") / "ngx_nchan_module.so"
        return path if path.exists() else None

    async def start(self) -> None:
        port = self.processes.start_on_a_port(self._command)
        self.url = f"ws://127.0.0.1:{port}/subscribe"
        self._http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60)
        status = (await self._http.get("/status")).text
        found = re.search(r"nchan version: (\S+)", status)
        self.version = f"{found.group(1) if found else '?'}, nginx {_first_version(program('nginx'), '-v')}"

    def _command(self, port: int) -> list[str]:
        config = self.scratch / "nginx.conf"
        # With less than a sixteenth of them free, nginx closes new connections before they have asked.
        slots = (self.connections + 100) * 9 // 8
        temporary = "\n".join(
            f"  {name}_temp_path {self.scratch}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        # As root, nginx would hand its worker to a user that may not read the scratch directory.
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(f"""
load_module {self._module()};
{user}
daemon off;
worker_processes 1;
pid {self.scratch}/nginx.pid;
error_log stderr crit;
events {{ use epoll; multi_accept on; worker_connections {slots}; }}
http {{
  access_log off;
{temporary}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /subscribe {{ nchan_subscriber websocket; nchan_channel_id peers; }}
    location = /publish {{ nchan_publisher http; nchan_channel_id peers; nchan_store_messages off; }}
    location = /status {{ nchan_stub_status; }}
  }}
}}
""")
        return [program("nginx"), "-p", str(self.scratch), "-c", str(config), "-e", "stderr"]

    async def publish(self) -> None:
        # With this type subscribers get a binary frame, as from the others.
        sent = await self._http.post(
            "/publish", content=PAYLOAD, headers={"Content-Type": "application/octet-stream"}
        )
        sent.raise_for_status()

    async def close(self) -> None:
        if hasattr(self, "_http"):
            await self._http.aclose()
        await super().close()


class Mosquitto(Peer):
    """Eclipse Mosquitto, an MQTT broker, on its WebSocket listener."""

    name: ClassVar = "mosquitto"
    install: ClassVar = "apt-get install mosquitto"
    settings: ClassVar = (
        "WebSocket listener, MQTT 3.1.1, clean session, QoS 0, keepalive off; persistence false; sys_interval 0; "
        "set_tcp_nodelay true; log_dest none; published over plain MQTT on a Unix socket, as what comes in over "
        "its WebSockets can wait some milliseconds"
    )
    joining: ClassVar = "upgrade, CONNECT, SUBSCRIBE, until the SUBACK"
    ready_mark: ClassVar = b"\x90\x03\x00\x01"  # SUBACK of packet 1

    @classmethod
    def installed(cls) -> bool:
        return bool(program("mosquitto"))

    async def start(self) -> None:
        port = self.processes.start_on_a_port(self._command)
        self.url = f"ws://127.0.0.1:{port}/"
        self.version = _first_version(program("mosquitto"), "-h")
        reader, self._publisher = await asyncio.open_unix_connection(self.scratch / "mqtt")
        self._publisher.write(_mqtt_connect("publisher"))
        await reader.readexactly(4)  # CONNACK

    def _command(self, port: int) -> list[str]:
        # Without a plain listener, 2.0 does not start (eclipse-mosquitto/mosquitto #2578).
        config = self.scratch / "mosquitto.conf"
        user = "user root" if os.geteuid() == 0 else ""
        config.write_text(f"""
{user}
persistence false
sys_interval 0
set_tcp_nodelay true
log_dest none
connection_messages false
listener 0 {self.scratch}/mqtt
listener {port} 127.0.0.1
socket_domain ipv4
protocol websockets
allow_anonymous true
""")
        return [program("mosquitto"), "-c", str(config)]

    def opening(self, number: int) -> bytes:
        return opening(self.url, "Sec-WebSocket-Protocol: mqtt")

    def greeting(self, number: int) -> bytes:
        return _mqtt_connect(f"d{number}") + _mqtt(0x82, b"\x00\x01" + _mqtt_text("peers") + b"\x00")

    async def publish(self) -> None:
        self._publisher.write(_mqtt(0x30, _mqtt_text("peers") + PAYLOAD))

    async def close(self) -> None:
        if hasattr(self, "_publisher"):
            self._publisher.close()
            await self._publisher.wait_closed()
        await super().close()


def _mqtt_connect(client: str) -> bytes:
    """Return a CONNECT: protocol level 4 (3.1.1), clean session, no keepalive."""
    return _mqtt(0x10, _mqtt_text("MQTT") + b"\x04\x02\x00\x00" + _mqtt_text(client))


def _mqtt(first: int, body: bytes) -> bytes:
    """Return a packet; the length goes in groups of seven bits (MQTT 3.1.1 section 2.2.3)."""
    size, length = len(body), bytearray()
    while size >= 128:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes((first, *length, size)) + body


def _mqtt_text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


class Nats(Peer):
    """NATS server, on its WebSocket listener."""

    name: ClassVar = "nats"
    install: ClassVar = "apt-get install nats-server"
    settings: ClassVar = (
        "core NATS without JetStream; websocket no_tls, compression off; ping_interval 1h, write_deadline 60s, "
        "max_connections for all; not verbose; GOMAXPROCS follows from its one core; published over a WebSocket of "
        "the load generator"
    )
    joining: ClassVar = "upgrade, CONNECT, SUB, until the PONG"
    ready_mark: ClassVar = b"PONG\r\n"

    @classmethod
    def installed(cls) -> bool:
        return bool(program("nats-server"))

    async def start(self) -> None:
        port = self.processes.start_on_a_port(self._command)
        self.url = f"ws://127.0.0.1:{port}/"
        self.version = _first_version(program("nats-server"), "--version")
        self._speaker = Speaker(_NATS_CONNECT + b"PING\r\n", self.ready_mark)
        await self._speaker.connect(self.url, self.opening(0))

    def _command(self, port: int) -> list[str]:
        config = self.scratch / "nats.conf"
        config.write_text(f"""
listen: "127.0.0.1:-1"
websocket {{ listen: "127.0.0.1:{port}", no_tls: true, compression: false, handshake_timeout: "60s" }}
max_connections: {self.connections + 100}
ping_interval: "1h"
write_deadline: "60s"
""")
        return [program("nats-server"), "-c", str(config)]

    def greeting(self, number: int) -> bytes:
        return _NATS_CONNECT + b"SUB peers 1\r\nPING\r\n"

    def answer(self, data: bytes) -> bytes:
        # It asks once after the start to learn the round trip, and drops who does not answer.
        return b"PONG\r\n" if b"PING\r\n" in data else b""

    async def publish(self) -> None:
        self._speaker.send(b"PUB peers %d\r\n%b\r\n" % (len(PAYLOAD), PAYLOAD))

    async def close(self) -> None:
        if hasattr(self, "_speaker"):
            self._speaker.end()
        await super().close()


_NATS_CONNECT: Final = b"CONNECT " + json.dumps({"verbose": False, "pedantic": False}).encode() + b"\r\n"
