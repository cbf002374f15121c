"""A mapping that is made when something in it is first asked for."""

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class Deferred(Mapping[str, Value], Generic[Value]):
    """A mapping of known size that is made when something in it is first asked for."""

    def __init__(self, size: int, make: Callable[[], dict[str, Value]]) -> None:
        self._size = size
        self._make = make
        self._made: dict[str, Value] | None = None

    @property
    def _all(self) -> dict[str, Value]:
        if self._made is None:
            self._made = self._make()
        return self._made

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __getitem__(self, name: str) -> Value:
        return self._all[name]

    def __contains__(self, name: object) -> bool:
        return name in self._all

    def get(self, name: str, default: Any = None) -> Any:
        """As a dict's; Mapping's own would catch an exception for each name that is not there."""
        return self._all.get(name, default)

    def keys(self) -> KeysView[str]:
        """The dict's own view, as are the next two: iterating over it runs no Python code."""
        return self._all.keys()

    def values(self) -> ValuesView[Value]:
        """See keys."""
        return self._all.values()

    def items(self) -> ItemsView[str, Value]:
        """See keys."""
        return self._all.items()

    def __repr__(self) -> str:
        return f"<{self._size} entries>" if self._made is None else repr(self._made)
