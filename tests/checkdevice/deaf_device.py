"""A device that opens its WebSocket and takes no notice of what comes, not even of pings."""

from __future__ import annotations

import os
import socket
import sys
from urllib.parse import urlsplit

url = urlsplit(sys.argv[1])
lines = (
    f"GET {url.path} HTTP/1.1",
    f"Host: {url.netloc}",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol: fanout.v1.json",
    f"Authorization: Bearer {os.environ['FANOUT_TOKEN']}",
)
with socket.create_connection((url.hostname, url.port)) as connection:
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    while connection.recv(4096):
        pass
