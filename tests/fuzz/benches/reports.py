"""A saved report: refused in one line, or shown in every format without a character that acts, its verdict its own."""

import json
import random
from pathlib import Path
from typing import Any

from auditor import audit
from auditor.errors import AuditorError
from auditor.forge import forge
from auditor.reporting.formats import FORMATS
from auditor.reporting.saved import read_report
from tests.fuzz.damage import damage_document
from tests.fuzz.running import Outcome
from tests.fuzz.truth import strict_json

NAMES = (None, "missing-block-scale", "missing-shard", "unexpected-tensors")
# What a terminal, a page or an editor obeys instead of showing.
ACTING = {*map(chr, (*range(9), *range(11, 32), *range(127, 160))), *"\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066"}


class Bench:
    """Reports of a sound and of broken checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "report.json"
        self.sound = []
        for number, name in enumerate(NAMES):
            where = folder / str(number)
            forge(where, like="tiny", sparse=True, break_name=name)
            self.sound.append(audit(where).model_dump_json().encode())

    def case(self, rng: random.Random, tally: Outcome) -> str | None:
        data, kind = damage_document(rng, rng.choice(self.sound))
        tally.kind(kind)
        self.file.write_bytes(data)
        try:
            report = read_report(self.file)
        except AuditorError as error:
            tally.verdict("refused")
            return None if str(error).isprintable() else f"an unprintable line: {str(error)!r}"
        tally.verdict(report.verdict)
        try:
            document: Any = strict_json(data)
        except (ValueError, RecursionError) as error:
            return f"read, and no strict JSON: {error}"
        if report.verdict == "passed" and (why := _against(document)):
            return f"read as passed: {why}"
        shown = [name for name in FORMATS if name not in ("csv", "html") or rng.random() < 0.02]
        for name in shown:
            text = FORMATS[name].render(report)
            whole = text if isinstance(text, str) else "".join(text.values())
            acting = ACTING.intersection(whole) if name != "json" else set()
            if acting:
                return f"{name} holds {sorted(acting)!r}"
            if name == "json":
                json.loads(whole)
        return None


def _against(report: dict[str, Any]) -> str | None:
    """Why a report that is read as passed did not pass, by its own parts."""
    if report.get("incomplete") or report.get("unmet"):
        return "something is incomplete or unmet"
    gates = {"error": {"error"}, "warning": {"error", "warning"}, "never": set()}[report.get("fail_on", "error")]
    for finding in report["findings"]:
        gating = finding["severity"] in gates and finding.get("status", "new") == "new"
        if gating and finding.get("caused_by") is None:
            return f"{finding['rule']} gates"
    return None
