"""The locustfile's options: what they may be, and one line about what they may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fanout.errors import InvalidInput
from loadtest.locusts.night import campaign_of
from loadtest.locusts.settings import Settings, api_key, defaults, device_key, settings_of


def checked(**options: Any) -> Settings:
    found = defaults()
    for name, value in {"gateway_url": "ws://127.0.0.1:8081/v1/connect", **options}.items():
        assert hasattr(found, f"fanout_{name}"), name
        setattr(found, f"fanout_{name}", value)
    return settings_of(found)


def test_what_is_separated_by_commas_is_taken_apart() -> None:
    settings = checked(gateway_url="ws://a:1/x, wss://b/y", topics="cup,jp", slo="flips = devices")
    assert settings.gateways == ("ws://a:1/x", "wss://b/y")
    assert settings.topics == ("cup", "jp")
    assert [str(each) for each in settings.slos] == ["flips = devices"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gateway_url": ""}, "--gateway-url is empty"),
        ({"gateway_url": "http://127.0.0.1:8081"}, "--gateway-url"),
        ({"gateway_url": "ws://"}, "--gateway-url"),
        ({"gateway_url": "ws://h:port/"}, "--gateway-url"),
        ({"origin": "nonsense"}, "--origin"),
        ({"control_url": "ws://h"}, "--control-url"),
        ({"topics": ","}, "--topics"),
        ({"topics": "t" * 65}, "--topics"),
        ({"topics": ",".join(f"t{number}" for number in range(17))}, "--topics"),
        ({"shape": "party"}, "ramp, storm, night"),
        ({"shape": "night"}, "--control-url"),
        ({"shape": "storm", "swarm_users": 1}, "kill a gateway"),
        ({"swarm_devices": 0}, "--swarm-devices"),
        ({"swarm_users": -1}, "--swarm-users"),
        ({"arm": float("nan")}, "--arm"),
        ({"patience": float("inf")}, "--patience"),
        ({"activate_window": -1.0}, "--activate-window"),
        ({"campaign": "nowhere.json"}, "no such file"),
        ({"slo": "flips = everybody"}, "everybody"),
        ({"slo_file": "nowhere.json"}, "--slo-file"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        checked(**options)
    assert "\n" not in str(refused.value)


def test_keys_come_from_the_environment_and_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, ask in (("FANOUT_DEVICE_KEY", device_key), ("FANOUT_API_KEY", api_key)):
        monkeypatch.delenv(name, raising=False)
        with pytest.raises(InvalidInput, match=name):
            ask()
    monkeypatch.setenv("FANOUT_DEVICE_KEY", "short")
    with pytest.raises(InvalidInput, match="5 bytes"):
        device_key()
    assert not [name for name in vars(defaults()) if "key" in name]


def test_a_campaign_of_a_file_must_be_one(tmp_path: Path) -> None:
    file = tmp_path / "campaign.json"
    for content in ("[]", "{}", "nonsense"):
        file.write_text(content)
        with pytest.raises(InvalidInput, match="--campaign"):
            campaign_of(checked(campaign=str(file)), 0)
    file.write_text('{"id": "cup", "title": "Cup"}')
    assert campaign_of(checked(campaign=str(file)), 0)["id"] == "cup"
    built_in = campaign_of(checked(topics="cup,jp", stages="live,over", bundle_bytes=10), 5)
    assert (built_in["topic"], built_in["stages"]) == ("cup", ["upcoming", "live", "ended", "over"])
