"""One shard's header: what the parser takes as sound is what safetensors reads, and the other way round."""

import random
import struct
from pathlib import Path

from safetensors import SafetensorError, safe_open

from auditor.forge import forge
from auditor.format.headers import parse_header
from auditor_schemas.policy import DEFAULT_LIMITS
from tests.fuzz.damage import damage_bytes, damage_json
from tests.fuzz.running import Outcome
from tests.fuzz.truth import strict_json

FIELDS = {"dtype", "shape", "data_offsets"}
METADATA = "__metadata__"


class Bench:
    """The headers of a sound checkpoint, each with the bytes of data behind it."""

    def __init__(self, folder: Path) -> None:
        forge(folder / "checkpoint", like="tiny", sparse=True)
        self.file = folder / "one.safetensors"
        self.sound = []
        for path in sorted((folder / "checkpoint").glob("*.safetensors")):
            with path.open("rb") as file:
                header = file.read(int.from_bytes(file.read(8), "little"))
            self.sound.append((header, path.stat().st_size - 8 - len(header)))
        self.sound += [(_small(count), count) for count in (0, 1, 2, 5)]

    def case(self, rng: random.Random, tally: Outcome) -> str | None:
        raw, payload = rng.choice(self.sound)
        damage = damage_bytes if rng.random() < 0.5 else damage_json
        raw, kind = damage(rng, raw)
        if rng.random() < 0.15:
            payload = max(0, payload + rng.choice((-1, 1, 8, -8, 1 << 20, -payload)))
            kind = "file size"
        tally.kind(kind)
        header = parse_header(raw, payload, DEFAULT_LIMITS)
        verdict = "limit" if header.over_limit else "faults" if header.faults or not header.complete else "sound"
        tally.verdict(verdict)
        if verdict == "limit":
            return None
        told = self._told(raw, payload)
        if verdict == "sound":
            found = {name: (each.dtype, each.shape) for name, each in header.tensors.items()}
            return None if told is not None and found == told else f"taken as sound; another reading: {told!r:.300}"
        if told is not None and _plain(raw):
            return f"sound by two readings, and the parser says: {[each.message for each in header.faults][:3]}"
        return None

    def _told(self, raw: bytes, payload: int) -> dict[str, tuple[str, tuple[int, ...]]] | None:
        """Names, dtypes and shapes as safetensors reads them where a strict JSON reading agrees, or None."""
        try:
            document = strict_json(raw)
            with self.file.open("wb") as file:
                file.write(struct.pack("<Q", len(raw)) + raw)
                file.truncate(8 + len(raw) + payload)
            with safe_open(self.file, framework="numpy") as shard:
                views = {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118  # no mapping
                told = {name: (view.get_dtype(), tuple(view.get_shape())) for name, view in views.items()}
        except (SafetensorError, ValueError, RecursionError, OverflowError, MemoryError):
            return None
        return told if set(document) - {METADATA} == set(told) else None


def _small(count: int) -> bytes:
    entries = (f'"t{i}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{i + 1}]}}' for i in range(count))
    return f"{{{','.join(entries)}}}".encode()


def _plain(raw: bytes) -> bool:
    """Whether each entry has the three fields of the format and nothing else, which safetensors does not look at."""
    document = strict_json(raw)
    entries = [value for name, value in document.items() if name != METADATA]
    return raw[:1] == b"{" and METADATA not in document and all(set(entry) == FIELDS for entry in entries)
