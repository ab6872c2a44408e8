"""How many unknown API keys and passwords may be tried. Owns the counts, and what was good before.

It protects the store and the processor from whoever tries keys, whose length makes them safe, and an account from
whoever tries passwords. What was good before is looked up whatever others did, or one guesser would lock the desk
out in the very minute it has to press. Pure: time is an argument.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections import OrderedDict
from typing import Final

from fanout.control.config import ControlConfig
from fanout.store.keys import KEYS_MAX

# A household, a server or a phone has that much of IPv6 for itself, and could send from all of it.
_IPV6_PREFIX: Final = 64
_ADDRESS_CHARS_MAX: Final = 45
# Every key there can be, and a large staff; 100 KB.
_GOOD_MAX: Final = 4 * KEYS_MAX


def client(host: str) -> str:
    """Return what stands for a client: its IPv4 address or its IPv6 network; text that is neither, cut short."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:_ADDRESS_CHARS_MAX]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), _IPV6_PREFIX), strict=False))


class Guesses:
    """A token bucket for everybody who guessed wrong lately, so many of them at the most.

    Args:
        tries_max: Wrong guesses at once.
        tries_per_min: How many more every minute.
        guessers_max: Beyond it the one that was quiet the longest is forgotten.
    """

    def __init__(self, tries_max: int, tries_per_min: float, guessers_max: int) -> None:
        self._tries_max = float(tries_max)
        self._tries_per_s = tries_per_min / 60
        self._guessers_max = guessers_max
        # Tries left, and when that was; a guesser that is not here has all of them.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._good: OrderedDict[bytes, None] = OrderedDict()

    @classmethod
    def of_addresses(cls, config: ControlConfig) -> Guesses:
        """Return what counts for every client address, whether it tries keys or passwords."""
        return cls(config.key_tries_max, config.key_tries_per_min, config.key_addresses_max)

    @classmethod
    def of_accounts(cls, config: ControlConfig) -> Guesses:
        """Return what counts for every account's name, whoever tries passwords for it from wherever."""
        return cls(config.login_tries_max, config.login_tries_per_min, config.login_names_max)

    def __len__(self) -> int:
        return len(self._left)

    def take(self, guesser: str, now_s: float) -> float:
        """Use up one try of this guesser.

        It is taken before the key is looked up, so that many at the same time count too.

        Args:
            guesser: An address as `client` returns it, or the name of an account.
            now_s: Monotonic seconds.
        Returns:
            0, or how many seconds it takes until there is a try again.
        """
        tries, since_s = self._left.pop(guesser, (self._tries_max, now_s))
        tries = min(self._tries_max, tries + (now_s - since_s) * self._tries_per_s)
        wait_s = 0.0 if tries >= 1 else (1 - tries) / self._tries_per_s
        self._left[guesser] = (tries if wait_s else tries - 1, now_s)
        if len(self._left) > self._guessers_max:
            self._left.popitem(last=False)
        return wait_s

    def give_back(self, guesser: str) -> None:
        """Return the try: the guess was good, or nobody could tell."""
        if guesser in self._left:
            tries, since_s = self._left[guesser]
            self._left[guesser] = (min(self._tries_max, tries + 1), since_s)
            if tries + 1 >= self._tries_max:
                del self._left[guesser]

    def knows(self, key: str) -> bool:
        """Tell whether this key was good when it was last looked up. It must be looked up all the same."""
        return _digest(key) in self._good

    def good(self, key: str) -> None:
        """Take note that this key was found."""
        self._good[_digest(key)] = None
        self._good.move_to_end(_digest(key))
        if len(self._good) > _GOOD_MAX:
            self._good.popitem(last=False)

    def unknown(self, key: str) -> None:
        """Take note that this key was not found: it may have been revoked since."""
        self._good.pop(_digest(key), None)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
