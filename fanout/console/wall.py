"""The wall of TVs: a page of real devices on real sockets, and the tokens they come with.

It is there only where a demo has asked for it: with the open console, on loopback, given a gateway of this machine.
Anywhere else there is no such route, and the key that tokens are made with is never read. What a device does is the
business of the SDK that the page loads; here nothing is known of it.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fanout import tokens
from fanout.campaign import Phase
from fanout.console.templating import CSP
from fanout.console.visits import Visit, page
from fanout.control import auth, problems
from fanout.control.problems import Problem
from fanout.control.services import Services
from fanout.errors import FanoutError, InvalidInput
from fanout.roles import Role
from fanout.settings import secret

# Fewer are no wall. More are no more to look at, and browsers open 255 sockets at the most.
TILES_MIN: Final = 12
TILES_MAX: Final = 200
TILES_DEFAULT: Final = 120
# Short, so that whoever leaves the page open sees tokens renewed; with jitter, so that not all come back at once.
TOKEN_TTL_S: Final = 600.0
TOKEN_JITTER: Final = 0.2
# What RFC 7518 section 3.2 asks of HS256; gateways hold it too.
KEY_BYTES_MIN: Final = 32

_ID: Final = re.compile(r"wall-([0-9]{4})")
# Three televisions, then a phone, in turn through the regions: few cohorts, and something of each on every wall.
_PLATFORMS: Final = ("tv", "tv", "tv", "phone")
_REGIONS: Final = ("br", "de", "in", "jp", "us")


def routes(services: Services) -> list[BaseRoute]:
    """Return the wall's routes, none where nobody has asked for it. Raises InvalidInput: there is no key for it."""
    config = services.config
    if not config.wall_gateway_url:
        return []
    made = Wall(config.wall_gateway_url, config.wall_topic, _key())
    return [page(services, "/wall", made.show), made.token_route(services)]


def _key() -> bytes:
    key = secret("FANOUT_DEVICE_KEY").encode()
    if len(key) < KEY_BYTES_MIN:
        raise InvalidInput(
            f"wall gateway url is set, and FANOUT_DEVICE_KEY has {len(key)} bytes; set the gateway's own, at least "
            f"{KEY_BYTES_MIN}, or leave the wall out"
        )
    return key


@dataclass(frozen=True, slots=True)
class Wall:
    """The page and its tokens.

    Args:
        gateway_url: Where its devices connect.
        topic: What they listen to.
        key: The secret that the gateway verifies tokens with.
    """

    gateway_url: str
    topic: str
    key: bytes

    async def show(self, visit: Visit) -> Response:
        """Show the wall: ``?tiles=…``. Raises Problem 422 for a number it does not take."""
        tiles = _tiles(visit.request.query_params.get("tiles", str(TILES_DEFAULT)))
        config = {
            "gateway": self.gateway_url,
            "devices": [{"id": _name(number), **attrs(number)} for number in range(1, tiles + 1)],
        }
        response = visit.page(
            "wall.html",
            config=msgspec.json.encode(config).decode(),
            campaign=await self._campaign(visit.services),
            tiles=tiles,
            tiles_min=TILES_MIN,
            tiles_max=TILES_MAX,
        )
        origin = f"ws://{urlsplit(self.gateway_url).netloc}"
        response.headers["Content-Security-Policy"] = CSP.replace(
            "connect-src 'self'", f"connect-src 'self' {origin}"
        )
        return response

    async def _campaign(self, services: Services) -> Any:
        """Return the campaign that the wall is about: the one on its topic that was changed last."""
        found = [each for each in await services.watch.campaigns() if each.topic == self.topic]
        return next((each for each in found if each.phase is not Phase.CLOSED), None)

    def token_route(self, services: Services) -> Route:
        """Return where a device of the wall gets its token: ``/wall/tokens?device=wall-0001``."""

        async def endpoint(request: Request) -> Response:
            request.scope["fanout.route"] = "/wall/tokens"
            try:
                await auth.caller(request, services, Role.VIEWER)
                return JSONResponse({"token": self.token(request.query_params.get("device", ""))})
            except FanoutError as exc:
                return problems.of(exc).response()

        return Route("/wall/tokens", endpoint, methods=["GET"])

    def token(self, device: str) -> str:
        """Return a token for one of the wall's own devices, whatever else the key could sign.

        Raises:
            InvalidInput: It is none of them.
        """
        match = _ID.fullmatch(device)
        if match is None or not 1 <= int(match[1]) <= TILES_MAX:
            raise InvalidInput(f"device is {device[:80]!r}; send one of {_name(1)} to {_name(TILES_MAX)}")
        ttl_s = TOKEN_TTL_S * random.uniform(1 - TOKEN_JITTER, 1 + TOKEN_JITTER)
        return tokens.mint(self.key, device, [self.topic], attrs(int(match[1])), ttl_s=ttl_s)


def attrs(number: int) -> dict[str, str]:
    """Return what the device with this number is, and where."""
    return {"platform": _PLATFORMS[number % len(_PLATFORMS)], "region": _REGIONS[number % len(_REGIONS)]}


def _name(number: int) -> str:
    return f"wall-{number:04}"


def _tiles(sent: str) -> int:
    if sent.isascii() and sent.isdigit() and len(sent) <= 4 and TILES_MIN <= int(sent) <= TILES_MAX:
        return int(sent)
    raise Problem(
        422,
        "invalid-input",
        "Not so many TVs",
        f"tiles is {sent[:40]!r}; send a number from {TILES_MIN} to {TILES_MAX}, such as /wall?tiles={TILES_DEFAULT}",
    )
