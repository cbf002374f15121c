"""The index: what is read of it is what a strict JSON reading gives, and what that takes is read."""

import random
from pathlib import Path
from typing import Any

from auditor.forge import forge
from auditor.inventory.walk import parse_index
from auditor_schemas.policy import DEFAULT_LIMITS
from tests.fuzz.damage import damage_document
from tests.fuzz.running import Outcome
from tests.fuzz.truth import INDEX, strict_json


class Bench:
    """A sound index, and small ones."""

    def __init__(self, folder: Path) -> None:
        forge(folder / "checkpoint", like="tiny", sparse=True)
        self.sound = [(folder / "checkpoint" / INDEX).read_bytes(), *_SMALL]
        self.files = sorted(path.name for path in (folder / "checkpoint").glob("*.safetensors"))

    def case(self, rng: random.Random, tally: Outcome) -> str | None:
        data, kind = damage_document(rng, rng.choice(self.sound))
        tally.kind(kind)
        index = parse_index(data, DEFAULT_LIMITS, self.files if rng.random() < 0.5 else ())
        tally.verdict("faults" if index.faults and index.state == "read" else index.state)
        if index.state == "unread":
            return None
        try:
            document: Any = strict_json(data)
        except (ValueError, RecursionError):
            document = None
        placed = document.get("weight_map") if isinstance(document, dict) else None
        sound = isinstance(placed, dict) and all(isinstance(path, str) for path in placed.values())
        if index.state == "read" and not index.faults:
            return None if sound and dict(index.weight_map) == placed else f"read; another reading: {document!r:.300}"
        metadata = document.get("metadata") if sound else None
        total = metadata.get("total_size") if isinstance(metadata, dict) else None
        if sound and (metadata is None or isinstance(metadata, dict)) and (total is None or _natural(total)):
            shallow = all(not isinstance(each, dict | list) for each in (metadata or {}).values())
            extra = set(document) - {"metadata", "weight_map"}
            if shallow and not extra:
                return f"sound by another reading, and the auditor says: {[each.message for each in index.faults][:3]}"
        return None


def _natural(value: object) -> bool:
    return type(value) is int and value >= 0


_SMALL = (
    b'{"weight_map":{"metadata":"a.safetensors"}}',
    b'{"metadata":{"total_size":8},"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}',
    b'{"metadata":{},"weight_map":{"a.weight":"model-00001-of-000002.safetensors"}}',
)
