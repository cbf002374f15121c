"""Results as they are kept in a state folder, opened and written again by who may write there."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec


def changed(path: Path, change: Callable[[dict[str, Any]], object], *, sealed: bool = False) -> None:
    """Write a result again with other values. `sealed`: with the digest that anybody can make."""
    kept = msgspec.msgpack.decode(path.read_bytes())
    values = msgspec.msgpack.decode(kept["values"])
    change(values)
    raw = msgspec.msgpack.encode(values)
    if sealed:
        kept["seal"] = hashlib.sha256(kept["key"].encode() + b"\n" + raw).hexdigest()
    path.write_bytes(msgspec.msgpack.encode(kept | {"values": raw}))
