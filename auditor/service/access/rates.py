"""How often one caller may ask, counted by each process for itself."""

import ipaddress
import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter


class TooManyError(Exception):
    """More requests than the settings allow; `again_s` says in how many seconds there is room."""

    def __init__(self, again_s: int) -> None:
        super().__init__(again_s)
        self.again_s = again_s


def neighbourhood(address: str) -> str:
    """Whose an address is, as far as it tells: of IPv6 each customer has at least a /64 of them."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


class Rates:
    """Requests a minute of each caller, by kind; 0 is no limit."""

    def __init__(self, **minute: int) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._items = {kind: RateLimitItemPerMinute(most) for kind, most in minute.items() if most}

    def count(self, kind: str, caller: str) -> None:
        """Count a request. Raises TooManyError for one too many."""
        item = self._items.get(kind)
        if item is not None and not self._limiter.hit(item, kind, caller):
            stats = self._limiter.get_window_stats(item, kind, caller)
            raise TooManyError(max(1, math.ceil(stats.reset_time - time.time())))
