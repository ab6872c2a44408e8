"""Everything an operator may set on the control plane, with its unit, its default and its reason. Frozen; read once.

Secrets are not here: they come from the environment or a file.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from fanout import limits, wire
from fanout.checks import check_name
from fanout.errors import InvalidInput
from fanout.roles import Role

# An instant a little in the past is one that was "now" when it was typed; it is taken as now. Further back
# the window would be partly over, and everybody whose slot is past would act together.
PAST_MS_MAX: Final = 5_000


class ControlConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One control plane's settings. The descriptions are the command line's help."""

    public_url: Annotated[
        str,
        Meta(
            description="Where devices reach this API or the CDN before it, for the URLs of bundles. Without it "
            "these are paths on the origin that each device is configured with."
        ),
    ] = ""
    prefetch_window_ms_max: Annotated[int, Meta(ge=1, description="Longest window of a prefetch, ms.")] = (
        limits.PREFETCH_WINDOW_MS_MAX
    )
    activate_window_ms_max: Annotated[int, Meta(ge=1, description="Longest window of an activation, ms.")] = (
        limits.ACTIVATE_WINDOW_MS_MAX
    )
    # A retract undoes a mistake, so its window is short by nature; a minute still spreads a very large fleet.
    retract_window_ms_max: Annotated[int, Meta(ge=0, description="Longest window of a retract, ms.")] = 60_000
    at_ahead_ms_max: Annotated[int, Meta(ge=1, description="How far ahead an instant may lie, ms.")] = (
        limits.AT_AHEAD_MS_MAX
    )
    attr_keys: Annotated[
        tuple[str, ...], Meta(description="Attribute that a variant may match: the gateways' list; may be repeated.")
    ] = limits.ATTR_KEYS_DEFAULT
    # A bundle and the white space it was written with, or a campaign with a few of them. More bundles than fit
    # are uploaded one by one first.
    content_body_bytes_max: Annotated[
        int, Meta(ge=limits.BUNDLE_BYTES_MAX, description="Longest body with bundle content, bytes.")
    ] = 8 * 1024 * 1024
    # A button's body: a few names, and a reason of 500 characters.
    action_body_bytes_max: Annotated[int, Meta(ge=1024, description="Longest body of everything else, bytes.")] = (
        16 * 1024
    )
    # Who sends a body more slowly than this holds a connection for nothing.
    body_timeout_s: Annotated[float, Meta(gt=0, description="How long a body may take to arrive, s.")] = 30.0
    # A head is one packet or two. Who takes longer holds a connection, and needs no key for it.
    head_timeout_s: Annotated[
        float, Meta(gt=0, description="How long a connection may take to ask something, s.")
    ] = 10.0
    # The largest bundle at 70 kbit/s.
    answer_timeout_s: Annotated[float, Meta(gt=0, description="How long a client may leave an answer unread, s.")] = (
        120.0
    )
    # Room for a desk behind one address that calls at once after a restart, when no key is known yet. A key cannot
    # be guessed at any rate: this keeps those who try from costing the store a look-up each.
    key_tries_max: Annotated[
        int, Meta(ge=1, description="Unknown API keys that one client address may send at once.")
    ] = 60
    key_tries_per_min: Annotated[float, Meta(gt=0, description="And how many more it may send every minute.")] = 60.0
    # 3 MB; beyond it the address that was quiet the longest is forgotten.
    key_addresses_max: Annotated[int, Meta(ge=1, description="Addresses that are remembered for it.")] = 10_000
    # An editor's shift. Long enough that nobody is asked for a password in the minute of the press.
    session_s: Annotated[float, Meta(gt=0, description="How long somebody stays signed in, s.")] = 12 * 3600.0
    # A person mistypes a few times; a dictionary of 12 characters is not got through at three a minute.
    login_tries_max: Annotated[int, Meta(ge=1, description="Wrong passwords at once for one account.")] = 10
    login_tries_per_min: Annotated[float, Meta(gt=0, description="And how many more every minute.")] = 3.0
    # 2 MB; more names than there can be accounts, for those who are tried without having one.
    login_names_max: Annotated[int, Meta(ge=1, description="Account names that are remembered for it.")] = 20_000
    open_console: Annotated[
        bool,
        Meta(description="Whoever reaches it is an admin; only for trying things out, on loopback."),
    ] = False
    wall_gateway_url: Annotated[
        str,
        Meta(
            description="Gateway, ws://127.0.0.1:port/v1/connect, for a wall of TVs at /wall, each a device in the "
            "browser. It needs the open console, and FANOUT_DEVICE_KEY to make their tokens with."
        ),
    ] = ""
    wall_topic: Annotated[str, Meta(description="Topic that the wall's devices listen to.")] = ""
    oidc_issuer: Annotated[
        str, Meta(description="URL of the OpenID provider people may sign in with; its secret is no option.")
    ] = ""
    oidc_client_id: Annotated[str, Meta(description="What the OpenID provider knows this console as.")] = ""
    oidc_scope: Annotated[
        str, Meta(description="What the provider is asked for; many tell groups only when asked for them too.")
    ] = "openid profile"
    console_url: Annotated[
        str,
        Meta(
            description="Where people reach this console, for their way back from the provider. Without it: the "
            "host that the request names."
        ),
    ] = ""
    oidc_name_claim: Annotated[
        str,
        Meta(description="Claim that names a person; one that they cannot change themselves. Without it: sub."),
    ] = "preferred_username"
    oidc_roles_claim: Annotated[str, Meta(description="Claim that lists a person's groups.")] = "groups"
    oidc_roles: Annotated[
        tuple[str, ...],
        Meta(
            description="ROLE=GROUP, who in this group gets this role; may be repeated, the highest counts. "
            "Nobody gets in without one."
        ),
    ] = ()
    safe_timeout_s: Annotated[
        float, Meta(gt=0, description="How long to wait until something vouches for a publication, s.")
    ] = limits.SAFE_TIMEOUT_S
    # Half of what make bench finds on a busy machine.
    sends_per_s: Annotated[
        float,
        Meta(
            gt=0,
            description="For forecasts: devices a second that a gateway worker writes to, until it has measured it.",
        ),
    ] = 40_000.0

    # A leader that has died is followed after this; one that only stalls steps aside, and nothing happens twice.
    lease_s: Annotated[
        float, Meta(gt=0, description="How long a replica leads the schedule without renewing, s.")
    ] = 5.0
    # As often as presence is written.
    tick_s: Annotated[float, Meta(gt=0, description="Seconds between looks at the schedule.")] = 1.0
    # A device that fetches a bundle can cause a line, so a crowd can.
    log_lines_max: Annotated[
        int, Meta(ge=1, description="Lines of one kind that are logged in a period; the rest is counted.")
    ] = 20
    log_period_s: Annotated[float, Meta(gt=0, description="That period, s; at its end the counts are logged.")] = 10.0
    # A month of events; a flight of a minute is some 15 KB.
    flights_max: Annotated[int, Meta(ge=1, description="Flight records kept, the oldest given up first.")] = 500
    # Long enough for a store that is started at the same time; what comes later is an outage, and lived through.
    store_wait_s: Annotated[
        float, Meta(ge=0, description="How long to wait for the store at the start, s; then it exits.")
    ] = 30.0

    def __post_init__(self) -> None:
        """Hold what no single range can. Raises InvalidInput."""
        if self.public_url:
            parts = urlsplit(self.public_url)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
                raise InvalidInput(
                    f"public url is {self.public_url!r}; send http(s)://host[:port][/path], without a query"
                )

        self._check_wall()
        if bool(self.oidc_issuer) != bool(self.oidc_client_id):
            raise InvalidInput("oidc issuer and oidc client id go together; set both, or neither")
        issuer = urlsplit(self.oidc_issuer)
        if self.oidc_issuer and issuer.scheme != "https" and not is_loopback(issuer.hostname or ""):
            raise InvalidInput(
                f"oidc issuer is {self.oidc_issuer!r}; send https://…, as the provider itself writes it (http:// on "
                "loopback alone: what it says is as good as a password)"
            )
        for entry in self.oidc_roles:
            role, _, group = entry.partition("=")
            if role not in tuple(Role) or not group:
                raise InvalidInput(
                    f"oidc role is {entry[:80]!r}; send ROLE=GROUP, where ROLE is one of {', '.join(Role)}"
                )

    def _check_wall(self) -> None:
        if bool(self.wall_gateway_url) != bool(self.wall_topic):
            raise InvalidInput("wall gateway url and wall topic go together; set both, or neither")
        if not self.wall_gateway_url:
            return
        if not self.open_console:
            raise InvalidInput(
                "wall gateway url is set, but not open console: the wall hands out device tokens to whoever reaches "
                "it, so it is for trying things out alone; add open console, or leave the wall out"
            )
        check_name("wall topic", self.wall_topic)
        if not is_gateway_here(self.wall_gateway_url):
            raise InvalidInput(
                f"wall gateway url is {self.wall_gateway_url[:80]!r}; send ws://127.0.0.1:port{wire.PATH}, a gateway "
                "on this machine"
            )

    def bundle_url(self, sha256: str) -> str:
        """Return where devices fetch a bundle that was uploaded here."""
        return f"{self.public_url.rstrip('/')}{wire.BUNDLE_PATH}{sha256}"


def is_gateway_here(url: str) -> bool:
    """Tell whether this is a gateway's address on this machine, and nothing else."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    plain = f"ws://{f'[{host}]' if ':' in host else host}:{port}{parts.path}"
    return plain == url and port is not None and is_loopback(host) and parts.path in ("", wire.PATH)


def is_loopback(host: str) -> bool:
    """Tell whether this address or name is this machine's own, whoever resolves it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
