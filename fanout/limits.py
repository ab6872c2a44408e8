"""Every limit on what people and devices may send, with its reason.

These are the defaults. What an operator may change is a field of `fanout.control.config.ControlConfig` or
`gateway.config.GatewayConfig` that starts from the value here; the rest is part of wire version 1.
"""

from __future__ import annotations

from typing import Final

# --- Identity. Part of the wire: tokens that break these are refused before the upgrade.
DEVICE_ID_CHARS_MAX: Final = 128
TOPICS_PER_DEVICE_MAX: Final = 16
ATTRS_PER_DEVICE_MAX: Final = 8
# Attribute values name platforms and regions, not people: short values keep cohorts few.
ATTR_VALUE_CHARS_MAX: Final = 32
ATTR_KEYS_DEFAULT: Final = ("platform", "region", "language", "tier")

# --- Names, used in keys, paths and metrics: `checks.NAME` is the pattern.
NAME_CHARS_MAX: Final = 64
TITLE_CHARS_MAX: Final = 200
REASON_CHARS_MAX: Final = 500
# An idempotency key travels in the header line of a log entry, so it has no spaces.
KEY_CHARS_MAX: Final = 128

# --- Campaigns.
STAGES_MAX: Final = 16
VARIANTS_MAX: Final = 64
# A window shorter than this is a herd; zero is allowed for retracts and tests (everyone at once, on purpose).
PREFETCH_WINDOW_MS_MAX: Final = 24 * 3600 * 1000
ACTIVATE_WINDOW_MS_MAX: Final = 10 * 60 * 1000
# What a campaign's origin may be asked for a second unless it says otherwise: what a few servers behind no CDN give.
ORIGIN_PER_S_DEFAULT: Final = 2_000.0
# More than this is a typing mistake: it is all the devices there are, within ten seconds.
ORIGIN_PER_S_MAX: Final = 10_000_000
# An activation armed further ahead than this is a typing mistake more often than a plan.
AT_AHEAD_MS_MAX: Final = 7 * 24 * 3600 * 1000

# --- Bundles.
# Canonical JSON of all stages. A TV holds several in a small flash cache.
BUNDLE_BYTES_MAX: Final = 1024 * 1024
# Up to here a bundle travels inside the prefetch message and no origin is touched.
INLINE_BYTES_MAX: Final = 16 * 1024
# All inline variants of one publication together: it passes through every gateway's doorbell, whose
# server-side buffer is 8 MB (client-output-buffer-limit pubsub), so thirty such publications still fit.
INLINE_BYTES_PER_PUBLICATION_MAX: Final = 256 * 1024

# --- The wire.
# From a device: a report is under 200 bytes, a sync under 40, 16 topics of 64 chars about 1.1 KB.
MESSAGE_BYTES_MAX: Final = 4096
# To a device: the state of a few campaigns, each with an inline bundle, JSON-escaped.
TO_DEVICE_BYTES_MAX: Final = 2 * 1024 * 1024
# Bundle digests listed in ?have=; a device caches a handful, and 64 hex digits each fill the URL.
HAVE_MAX: Final = 32
# How long before its instant an activation may be reported: far more than an honest device's clock is ahead, for it
# goes by its gateway's.
REPORT_AHEAD_MS_MAX: Final = 2_000

# --- The bus.
# Publications kept in the log: at a few a second the last hour, in practice weeks of editorial work.
LOG_ENTRIES_MAX: Final = 10_000
IDEMPOTENCY_TTL_S: Final = 24 * 3600
# How long to wait for a replica, the disk or a gateway to vouch for a publication.
SAFE_TIMEOUT_S: Final = 3.0
# Of the audit chain, in one answer; the command line reads the whole chain page by page.
AUDIT_ENTRIES_SHOWN_MAX: Final = 1_000
# A closed campaign's tombstone outlives any device that could still hold its bundle.
CLOSED_RETENTION_S: Final = 14 * 24 * 3600

assert INLINE_BYTES_MAX <= INLINE_BYTES_PER_PUBLICATION_MAX <= TO_DEVICE_BYTES_MAX
assert INLINE_BYTES_MAX <= BUNDLE_BYTES_MAX
assert TOPICS_PER_DEVICE_MAX * (NAME_CHARS_MAX + 4) < MESSAGE_BYTES_MAX
