"""A whole checkpoint whose headers, index or config.json are damaged: no crash, and no pass that others deny.

After most damage the auditor may say what it likes but "passed"; after some the checkpoint still says the same, and
"passed" is right. Which of the two it is decides an independent reading.
"""

import random
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor import audit
from auditor.forge import forge
from auditor.patterns import expand
from auditor_reports.html import render
from auditor_schemas.report import AuditReport
from tests.fuzz.damage import damage_bytes, damage_json
from tests.fuzz.running import Outcome
from tests.fuzz.truth import CONFIG, INDEX, facts_of


@dataclass
class Part:
    """One file: the bytes at its start, and the size it is grown or cut to; behind a header is a hole."""

    head: bytes
    size: int


Checkpoint = dict[str, Part]


def read_checkpoint(folder: Path) -> Checkpoint:
    """The files of a sound sparse checkpoint; of a shard its header alone."""
    parts: Checkpoint = {}
    for path in sorted(folder.iterdir()):
        size = path.stat().st_size
        with path.open("rb") as file:
            if path.suffix == ".safetensors":
                length = file.read(8)
                head = length + file.read(int.from_bytes(length, "little"))
            else:
                head = file.read()
        parts[path.name] = Part(head, size)
    return parts


def write_part(folder: Path, name: str, part: Part) -> None:
    """Write one file, with a hole behind its head."""
    with (folder / name).open("wb") as file:
        file.write(part.head)
        file.truncate(part.size)


def damage(rng: random.Random, sound: Checkpoint) -> tuple[Checkpoint, set[str], str]:
    """A damaged checkpoint, the files that changed, and the first kind of damage done."""
    parts, changed, kinds = dict(sound), set[str](), []
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        draw = rng.random()
        name = CONFIG if draw < 0.25 else INDEX if draw < 0.5 else rng.choice([n for n in parts if n.endswith("rs")])
        kind, parts[name] = _damage_part(rng, name, parts[name], sound)
        changed.add(name)
        kinds.append(kind)
    return parts, changed, kinds[0]


def _damage_part(rng: random.Random, name: str, part: Part, sound: Checkpoint) -> tuple[str, Part]:
    shard = name.endswith(".safetensors")
    body = part.head[8:] if shard else part.head
    payload = part.size - len(part.head)
    draw = rng.random()
    if draw < 0.02:
        other = sound[rng.choice(list(sound))]
        return "another file in its place", Part(other.head, other.size)
    if shard and draw < 0.12:
        size = max(0, part.size + rng.choice((-1, 1, 8, -8, -payload, -part.size, 1 << 20, rng.randint(-payload, 0))))
        return "file size", Part(part.head[:size], size)
    if shard and draw < 0.2:
        length = rng.choice((0, 1, 2, 8, len(body) - 1, len(body) + 1, 1 << 31, 1 << 63, rng.getrandbits(64)))
        return "declared header length", Part(struct.pack("<Q", length % (1 << 64)) + body, part.size)
    body, kind = damage_bytes(rng, body) if draw < 0.6 and body else damage_json(rng, body)
    if not shard:
        return kind, Part(body, len(body))
    if rng.random() < 0.85:  # the length is made to fit, so that the damage lies in what it frames
        return kind, Part(struct.pack("<Q", len(body)) + body, 8 + len(body) + payload)
    return kind, Part(part.head[:8] + body, max(part.size, 8 + len(body)))


class Bench:
    """A folder with a sound checkpoint that is damaged, audited and mended case after case."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkpoint"
        forge(self.folder, like="tiny", sparse=True)
        self.sound = read_checkpoint(self.folder)
        self.truth = facts_of(self.folder)
        self.changed: set[str] = set()

    def case(self, rng: random.Random, tally: Outcome) -> str | None:
        for name in self.changed:
            write_part(self.folder, name, self.sound[name])
        parts, self.changed, kind = damage(rng, self.sound)
        for name in self.changed:
            write_part(self.folder, name, parts[name])
        tally.kind(kind)
        report = audit(self.folder)
        tally.verdict(report.verdict)
        tally.rules({finding.rule for finding in report.findings})
        return contradiction(report, thorough=rng.random() < 0.05) or self._against(report)

    def _against(self, report: AuditReport) -> str | None:
        if report.verdict != "passed":
            return None
        try:
            facts = facts_of(self.folder)
        except ValueError as error:
            return f"passed what another reader refuses: {error}"
        # More than was promised loads as before: it is a warning, and a pass with a warning is the verdict for it.
        warned = named(report, {"warning"})
        for key, value in self.truth.items():
            told = bool(warned) and _holds_more(key, value, facts[key])
            if facts[key] != value and not told and not _names(key, value, facts[key], warned):
                return f"passed with another {key}: {_difference(value, facts[key])}"
        return None


def contradiction(report: AuditReport, *, thorough: bool) -> str | None:
    """What a report says against itself, or cannot be written as."""
    errored = [each for each in report.outcomes if each.outcome == "errored"]
    if errored:
        return f"{errored[0].rule} errored: {errored[0].reason}"
    text = report.model_dump_json()
    if thorough:
        if AuditReport.model_validate_json(text) != report:
            return "the report does not come back from its JSON"
        render(report).encode()
    if report.verdict == "incomplete" and not report.incomplete:
        return "incomplete without a reason"
    if report.verdict == "failed" and not any(each.severity == "error" for each in report.findings):
        return "failed without an error"
    if report.verdict == "passed" and (
        report.coverage.unread or report.coverage.headers_read != report.coverage.shards
    ):
        return f"passed, having left unread: {report.coverage.unread}"
    return None


def named(report: AuditReport, severities: set[str]) -> set[str]:
    """The rules, fields, files and tensors that findings of these severities name."""
    return {
        name
        for each in report.findings
        if each.severity in severities
        for pattern in (each.rule, each.location.field or "", each.location.file or "", *each.affected)
        for name in expand(pattern)
    }


def _holds_more(key: str, before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether all that was there is there unchanged; of the config, whether it promises less by MTP modules alone."""
    if key == "layout":
        return before == {**after, "num_nextn_predict_layers": before["num_nextn_predict_layers"]}
    return before.items() <= after.items()


def _names(key: str, before: dict[str, Any], after: dict[str, Any], warned: set[str]) -> bool:
    """Whether warnings name all that differs: tensors, as a norm of another float dtype, or fields of the config."""
    changed = {name for name in {**before, **after} if before.get(name) != after.get(name)}
    if key == "layout":
        return changed <= warned or (changed == {"tie_word_embeddings"} and "lm_head.weight" in warned)
    return changed <= warned


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return "; ".join(f"{key}: {before.get(key)} became {after.get(key)}" for key in keys[:3])[:400]
