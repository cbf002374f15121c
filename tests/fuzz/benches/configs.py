"""config.json: what expectations are derived from is what a strict JSON reading says, and no value makes them dear."""

import json
import random
from pathlib import Path
from typing import Any

from auditor.families.configure import configure
from auditor.forge import forge
from auditor.inventory.facts import ConfigFile
from auditor_schemas.policy import DEFAULT_LIMITS
from tests.fuzz.damage import damage_document
from tests.fuzz.running import Outcome
from tests.fuzz.truth import ABSENT, CONFIG, LAYOUT_FIELDS, strict_json

RELEASES = ("config.deepseek-v3.json", "config.deepseek-v3.2.json")
DATA = Path(__file__).resolve().parents[2] / "data"


class Bench:
    """The configs of a tiny checkpoint and of the releases."""

    def __init__(self, folder: Path) -> None:
        forge(folder / "checkpoint", like="tiny", sparse=True)
        self.sound = [(folder / "checkpoint" / CONFIG).read_bytes(), *((DATA / name).read_bytes() for name in RELEASES)]

    def case(self, rng: random.Random, tally: Outcome) -> str | None:
        sound = rng.choice(self.sound)
        data, kind = damage_document(rng, sound)
        tally.kind(kind)
        found = configure(ConfigFile("read", data), DEFAULT_LIMITS)
        verdict = "limit" if found.over_limit else "no family" if found.unsupported else "faults"
        verdict = "configured" if found.config is not None and not found.faults else verdict
        tally.verdict(verdict)
        for fault in found.faults:
            json.dumps(fault.actual)
            if not fault.message.isprintable():
                return f"an unprintable message: {fault.message!r}"
        try:
            document: Any = strict_json(data)
        except (ValueError, RecursionError):
            document = None
        if verdict == "configured":
            if not isinstance(document, dict):
                return "configured from what is no JSON object"
            assert found.family is not None
            assert found.config is not None
            size = found.family.expectations(found.config).size
            if size > DEFAULT_LIMITS.expected_tensors:
                return f"{size:,} expected tensors"
            return _difference(document, found.config)
        if verdict == "faults" and isinstance(document, dict) and _written(document) == _written(strict_json(sound)):
            return f"says the same as the sound one, and: {[each.message for each in found.faults][:3]}"
        return None


def _written(document: dict[str, Any]) -> str:
    """A document in one spelling: 8.0 is not 8, which no loader takes it for, and 0 is not false."""
    return json.dumps(document, sort_keys=True)


def _difference(document: dict[str, Any], config: Any) -> str | None:
    for field in LAYOUT_FIELDS:
        said, taken = document.get(field), getattr(config, field)
        if said is None and field in ABSENT:
            said = ABSENT[field]
        if said != (taken or (0 if said == 0 else taken)):
            return f"{field}: is {said!r:.60}, {taken!r:.60} was taken"
    return None
