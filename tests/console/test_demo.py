"""What ``fanout demo`` opens onto."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from support.stack import ROOT, connecting, receive
from support.waiting import PATIENCE_S, until
from support.web import web

from fanout import processes
from fanout.demo import CAMPAIGN

SENTENCES = ("hold the red button", "wall of TVs", "Press Retract", "Open the flight record")


async def test_the_demo_says_where_its_control_room_is_and_what_to_press(tmp_path: Path) -> None:
    said = tmp_path / "said"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FANOUT_")}
    with said.open("wb") as stderr:
        demo = processes.start(
            [sys.executable, "-m", "fanout.cli", "demo", "--devices", "20", "--prefetch-window", "1"],
            env={**clean, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        # Its words come line by line, and the address is not the last of them.
        await until(lambda: all(each in " ".join(said.read_text().split()) for each in SENTENCES), "its words")
        found = re.search(rf"http://127\.0\.0\.1:\d+/campaigns/{CAMPAIGN}", said.read_text())
        assert found is not None
        async with web() as http:
            page = await http.get(found[0])
            wall = await http.get(found[0].replace(f"campaigns/{CAMPAIGN}", "wall"))
            asked = await http.get(str(wall.url.join("/wall/tokens?device=wall-0001")))
        assert page.status_code == 200
        assert "nobody has signed in" in page.text
        # As the wall's devices come: from the page's address, with the token in a subprotocol.
        [gateway] = re.findall(r"ws://127\.0\.0\.1:\d+/v1/connect", wall.text)
        offered = ["fanout.v1.json", f"bearer.{asked.json()['token']}"]
        origin = f"http://{wall.url.netloc.decode()}"
        async with connecting(gateway, "", additional_headers={}, origin=origin, subprotocols=offered) as tv:
            assert (await receive(tv))["t"] == "welcome"
    finally:
        demo.send_signal(signal.SIGINT)
        status = await asyncio.to_thread(demo.wait, PATIENCE_S)
    assert status == 130
