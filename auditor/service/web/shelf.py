"""Answers that took long to make, kept by what they are of, the last ones used, up to so many bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable


class Shelf:
    """What is kept is never wrong, since its key names all that it was made from."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def take(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """What is kept under the key, or else what `make` gives, which is kept if there is room for it at all."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            if key not in self._kept and len(made) <= self._most:
                self._kept[key] = made
                self._bytes += len(made)
                while self._bytes > self._most:
                    self._bytes -= len(self._kept.popitem(last=False)[1])
        return made

    @property
    def bytes(self) -> int:
        """How much is kept."""
        return self._bytes
