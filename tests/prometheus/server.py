"""A real Prometheus on a port and a directory of its own, asking processes of a test several times a second."""

from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from support.waiting import PATIENCE_S, until
from support.web import web

from fanout import processes

from .rules import RULES, groups

_LISTENING = re.compile(r'msg="Listening on" address=(\S+)')


def hurried(path: Path, for_: str) -> dict[str, Any]:
    """Return a rule file with every wait shortened; what is asked stays as it is written."""
    return {
        "groups": [
            {
                "name": group["name"],
                "rules": [{**rule, "for": for_} if "for" in rule else rule for rule in group["rules"]],
            }
            for group in groups(path)
        ]
    }


class Prometheus:
    """What a test holds.

    Attributes:
        url: Where its API is.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    async def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that fire."""
        return [alert for alert in await self._alerts() if alert["state"] == "firing"]

    async def firing(self) -> set[str]:
        """Return the names of what fires."""
        return {alert["labels"]["alertname"] for alert in await self.alerts()}

    async def active(self) -> set[str]:
        """Return the names of what fires, or will if it lasts."""
        return {alert["labels"]["alertname"] for alert in await self._alerts()}

    async def _alerts(self) -> list[dict[str, Any]]:
        return list((await self._get("/api/v1/alerts"))["alerts"])

    async def up(self) -> set[str]:
        """Return the jobs whose last scrape went well."""
        targets = (await self._get("/api/v1/targets"))["activeTargets"]
        return {target["labels"]["job"] for target in targets if target["health"] == "up"}

    async def broken_rules(self) -> list[str]:
        """Return what Prometheus could not evaluate, and why."""
        found = (await self._get("/api/v1/rules"))["groups"]
        return [f"{rule['name']}: {rule['lastError']}" for g in found for rule in g["rules"] if rule.get("lastError")]

    async def evaluated(self) -> bool:
        """Tell whether every rule has been evaluated."""
        found = (await self._get("/api/v1/rules"))["groups"]
        return all(rule["health"] != "unknown" for group in found for rule in group["rules"])

    async def _get(self, path: str) -> Any:
        async with web(base_url=self.url) as http:
            answer = await http.get(path)
        return answer.raise_for_status().json()["data"]


@asynccontextmanager
async def prometheus(directory: Path, jobs: Mapping[str, tuple[str, str]], for_: str) -> AsyncIterator[Prometheus]:
    """Run one while the context lasts.

    Args:
        directory: For its configuration and data.
        jobs: By name, the URL to scrape and how often.
        for_: What every rule's ``for`` is replaced by.
    """
    (directory / "rules").mkdir()
    for path in RULES:
        (directory / "rules" / path.name).write_text(yaml.safe_dump(hurried(path, for_)))
    config = {
        "global": {"evaluation_interval": "500ms"},
        "rule_files": ["rules/*.yaml"],
        "scrape_configs": [
            {
                "job_name": job,
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "static_configs": [{"targets": [url.removeprefix("http://")]}],
            }
            for job, (url, interval) in jobs.items()
        ],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    log = directory / "log"
    with log.open("wb") as out:
        process = processes.start(
            [
                "prometheus",
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            stdout=subprocess.DEVNULL,
            stderr=out,
        )
    try:

        def listening() -> str:
            assert process.poll() is None, log.read_text()
            text = log.read_text()
            found = _LISTENING.search(text)
            return found[1] if found and "ready to receive" in text else ""

        yield Prometheus(f"http://{await until(listening, 'Prometheus')}")
    finally:
        processes.stop(process, PATIENCE_S)
