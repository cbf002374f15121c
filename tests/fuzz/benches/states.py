"""The folder of --resume: a result that was damaged counts as not there, and one that counts is the one written."""

import os
import random
from pathlib import Path

from auditor import audit
from auditor.comparison.derive import expectations_of
from auditor.content import Reading
from auditor.content.formats import Blocks, Formats
from auditor.content.place import open_place
from auditor.content.plan import whole_shards
from auditor.content.state import Seal, State
from auditor.forge import forge
from auditor.inventory.walk import walk
from auditor.opening import open_checkpoint
from auditor.sources import open_source
from auditor_schemas.policy import DEFAULT_LIMITS
from tests.fuzz.damage import damage_document
from tests.fuzz.running import Outcome

BLOCKS = Blocks((128, 128), False)


class Bench:
    """The folder of an audit that has ended, and what it loads."""

    def __init__(self, folder: Path) -> None:
        checkpoint, self.folder = folder / "checkpoint", folder / "state"
        forge(checkpoint, like="tiny")
        audit(checkpoint, depth="full", reading=Reading(depth="full", resume=str(self.folder), seed=1))
        source = open_source(str(checkpoint))
        settings = {"depth": "full", "digests": True, "blocks": BLOCKS}
        self.state = State(open_place(str(self.folder), source, shared=False), Seal(), source, settings)
        with open_checkpoint(str(checkpoint), DEFAULT_LIMITS) as opened:
            formats = Formats(BLOCKS, expectations_of(opened.configuration()))
        self.plans = whole_shards(walk(source, DEFAULT_LIMITS), formats)
        self.truth = [self.state.load(plan) for plan in self.plans]
        assert None not in self.truth
        self.sound = {path.name: path.read_bytes() for path in sorted(self.folder.iterdir())}

    def case(self, rng: random.Random, tally: Outcome) -> str | None:
        name = rng.choice(sorted(self.sound))
        path = self.folder / name
        data, kind = damage_document(rng, self.sound[name])
        draw = rng.random()
        if draw < 0.05:
            data, kind = self.sound[rng.choice(sorted(self.sound))], "another file in its place"
        path.write_bytes(data)
        if draw > 0.98:
            path.unlink()
            rng.choice((path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero")))()
            kind = "something else in its place"
        tally.kind(kind)
        try:
            found = [self.state.load(plan) for plan in self.plans]
        finally:
            path.rmdir() if path.is_dir() else path.unlink()
            path.write_bytes(self.sound[name])
        tally.verdict("counts" if None not in found else "not there")
        if any(each is not None and each != true for each, true in zip(found, self.truth, strict=True)):
            return f"{name}: other values count than were written"
        return None
