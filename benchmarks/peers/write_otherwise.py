"""Writes a sparse checkpoint again with the JSON of its headers, index and config.json in a WAY: FROM TO WAY."""

import json
import os
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _compact(document: Any, **style: Any) -> str:
    return json.dumps(document, separators=(",", ":"), **style)


def _shuffled(document: Any) -> Any:
    """Every object with its keys in another order, so that a header's are not in the order of their offsets."""
    if not isinstance(document, dict):
        return document
    keys = list(document)
    random.Random(len(keys)).shuffle(keys)
    return {key: _shuffled(document[key]) for key in keys}


def _escaped(document: Any) -> str:
    return re.sub(r'"[^"]*"', lambda text: text[0].replace(".", "\\u002e"), _compact(document))


WAYS: dict[str, Callable[[Any], str]] = {
    "compact": _compact,
    "spaced": json.dumps,
    "sorted": lambda document: _compact(document, sort_keys=True),
    "shuffled": lambda document: _compact(_shuffled(document)),
    "padded": lambda document: json.dumps(document, separators=("  ,  ", "  :  ")) + " " * 64,
    "escaped": _escaped,
}


def write_otherwise(checkpoint: Path, folder: Path, way: str) -> None:
    """Write all of a checkpoint into a new folder, its sizes and data unchanged."""
    folder.mkdir()
    for path in checkpoint.iterdir():
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little") if path.suffix == ".safetensors" else None
            if length is None:
                file.seek(0)
            raw = WAYS[way](json.loads(file.read(length))).encode()
        with (folder / path.name).open("wb") as file:
            if length is not None:
                file.write(len(raw).to_bytes(8, "little"))
            file.write(raw)
            if length is not None:
                file.truncate(8 + len(raw) + os.path.getsize(path) - 8 - length)


write_otherwise(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
