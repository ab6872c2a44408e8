"""The options of the locustfile: what they are called, what they may be, and the secrets that are none of them.

Keys come from the environment alone, on every node: locust shows options in its pages and sends them to workers.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct

from fanout import limits
from fanout.errors import InvalidInput
from loadtest.locusts.ledger import FIGURES
from loadtest.locusts.slos import Slo, check_names, parse, read_file

if TYPE_CHECKING:
    from locust.argument_parser import LocustArgumentParser

SHAPES: Final = ("ramp", "storm", "night")
_KEY_BYTES_MIN: Final = 32  # of HS256, as the gateways demand
_PREFIX: Final = "fanout_"


class _Option(NamedTuple):
    flag: str
    kind: type
    default: Any
    help: str
    least: float | None = None


_OPTIONS: Final = (
    _Option("gateway-url", str, "", "Gateways, comma-separated, such as ws://127.0.0.1:8081/v1/connect."),
    _Option("origin", str, "", "Where relative bundle URLs lead, such as http://127.0.0.1:8080."),
    _Option("control-url", str, "", "The control plane, for the night's presses; its key is FANOUT_API_KEY."),
    _Option("topics", str, "demo", "Comma-separated topics of every device; the night's campaign has the first."),
    _Option("shape", str, "ramp", "ramp: connect and hold; storm: and drop all at once; night: all of a live event."),
    _Option("swarm-users", int, 0, "Of the users, how many are SwarmUsers.", 0),
    _Option("swarm-devices", int, 5_000, "Devices of one SwarmUser.", 1),
    _Option("swarm-pace", float, 500.0, "Connects a second of one SwarmUser; 0: as fast as it goes.", 0),
    _Option("storms", int, 1, "storm: how many.", 1),
    _Option("storm-timeout", float, 120.0, "storm: seconds after which those that are not back are missing.", 0),
    _Option("campaign", str, "", "night: a campaign as JSON, as POST /v1/campaigns takes it; '' is a built-in one."),
    _Option("stages", str, "live", "night: comma-separated stages that are activated, one after the other."),
    _Option("bundle-bytes", int, 0, "night: padding of the built-in campaign; above 16 KiB devices fetch.", 0),
    _Option("prefetch-window", float, 30.0, "night: seconds over which devices get the content.", 0),
    _Option("arm", float, 10.0, "night: seconds between the press and the instant.", 0),
    _Option("activate-window", float, 30.0, "night: seconds over which devices flip.", 0),
    _Option("patience", float, 60.0, "night: seconds each step may take beyond its window.", 0),
    _Option("slo", str, "", "What must hold, ';'-separated: 'connect.p99<=1000; flips=devices'; 'night': a set."),
    _Option("slo-file", str, "", "The same as a JSON file: a list of such lines."),
    _Option("json", str, "", "File for the figures; replaced every few seconds."),
)
# Locust has options of its own by these names.
_NAMES: Final = {"json": "fanout-json"}


class Settings(Struct, frozen=True, kw_only=True):
    """The options, checked; see ``--help`` for what each is."""

    gateways: tuple[str, ...]
    origin: str
    control_url: str
    topics: tuple[str, ...]
    shape: str
    swarm_users: int
    swarm_devices: int
    swarm_pace: float
    storms: int
    storm_timeout_s: float
    campaign: str
    stages: tuple[str, ...]
    bundle_bytes: int
    prefetch_window_s: float
    arm_s: float
    activate_window_s: float
    patience_s: float
    slos: tuple[Slo, ...]
    json_file: str


def add_options(parser: LocustArgumentParser) -> None:
    """Give locust's command line ours."""
    group = parser.add_argument_group("fanout", "Devices of fanout; every option is a variable FANOUT_..., too.")
    for option in _OPTIONS:
        flag = _NAMES.get(option.flag, option.flag)
        dest = _PREFIX + option.flag.replace("-", "_")
        variable = "FANOUT_" + option.flag.replace("-", "_").upper()
        group.add_argument(
            f"--{flag}",
            dest=dest,
            type=option.kind,
            default=option.default,
            env_var=variable,
            help=option.help,
            metavar=option.kind.__name__.upper(),
        )


def defaults() -> Namespace:
    """Return the options as they are when nobody names them."""
    return Namespace(**{_PREFIX + option.flag.replace("-", "_"): option.default for option in _OPTIONS})


def settings_of(options: Namespace) -> Settings:
    """Return the options, checked.

    Raises:
        InvalidInput: One of them cannot work.
    """
    found = {option.flag: getattr(options, _PREFIX + option.flag.replace("-", "_")) for option in _OPTIONS}
    for option in _OPTIONS:
        value = found[option.flag]
        # NaN is not at least anything.
        if option.least is not None and not option.least <= value < float("inf"):
            raise InvalidInput(f"--{option.flag} is {value}, it must be a number from {option.least:g}")
    gateways = _words(found, "gateway-url")
    for url in gateways:
        _check_url("--gateway-url", url, ("ws", "wss"), "ws://127.0.0.1:8081/v1/connect")
    for name in ("origin", "control-url"):
        if found[name]:
            _check_url(f"--{name}", found[name], ("http", "https"), "http://127.0.0.1:8080")
    if found["shape"] not in SHAPES:
        raise InvalidInput(f"--shape is {found['shape']!r}; there are {', '.join(SHAPES)}")
    if found["shape"] == "night" and not found["control-url"]:
        raise InvalidInput("--shape night presses buttons: send --control-url, and its key in FANOUT_API_KEY")
    if found["shape"] == "storm" and found["swarm-users"]:
        raise InvalidInput("--shape storm drops DeviceUsers alone: leave --swarm-users out, or kill a gateway")
    topics = _words(found, "topics")
    for topic in topics:
        if len(topic) > limits.NAME_CHARS_MAX or len(topics) > limits.TOPICS_PER_DEVICE_MAX:
            raise InvalidInput(
                f"--topics takes {limits.TOPICS_PER_DEVICE_MAX} of {limits.NAME_CHARS_MAX} characters at most"
            )
    if found["campaign"] and not Path(found["campaign"]).is_file():
        raise InvalidInput(f"--campaign is {found['campaign']!r}, and there is no such file")
    slos = parse(found["slo"]) + (read_file(Path(found["slo-file"])) if found["slo-file"] else ())
    check_names(slos, FIGURES)
    seconds = ("storm-timeout", "prefetch-window", "arm", "activate-window", "patience")
    return Settings(
        gateways=gateways,
        topics=topics,
        stages=_words(found, "stages"),
        slos=slos,
        json_file=found["json"],
        **{name.replace("-", "_") + "_s": found[name] for name in seconds},
        **{
            name.replace("-", "_"): found[name]
            for name in (
                "origin",
                "control-url",
                "shape",
                "swarm-users",
                "swarm-devices",
                "swarm-pace",
                "storms",
                "campaign",
            )
        },
        bundle_bytes=found["bundle-bytes"],
    )


def device_key() -> bytes:
    """Return FANOUT_DEVICE_KEY. Raises InvalidInput if it is missing, or too short for a gateway."""
    secret = os.environ.get("FANOUT_DEVICE_KEY", "").encode()
    if not secret:
        raise InvalidInput("FANOUT_DEVICE_KEY is not set; it is the secret the gateways verify tokens with")
    if len(secret) < _KEY_BYTES_MIN:
        raise InvalidInput(f"FANOUT_DEVICE_KEY has {len(secret)} bytes, a gateway's has {_KEY_BYTES_MIN} at least")
    return secret


def api_key() -> str:
    """Return FANOUT_API_KEY. Raises InvalidInput if it is missing."""
    key = os.environ.get("FANOUT_API_KEY", "")
    if not key or not key.isascii():
        raise InvalidInput("FANOUT_API_KEY is not set to a key as it was printed; the night's presses need one")
    return key


def _words(found: Mapping[str, Any], name: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in str(found[name]).split(",") if word.strip())
    if not words:
        raise InvalidInput(f"--{name} is empty; send at least one")
    return words


def _check_url(flag: str, url: str, schemes: tuple[str, ...], example: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise InvalidInput(f"{flag} is {url!r}; send one such as {example}")
