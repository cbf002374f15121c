"""What is finished of an interrupted comparison: one small file for each task, in a place of the user's choice.

A result counts again only if everything it followed from is as it was: tool, both sources, the stamps of the files of
both sides, the seed, and which pairs were to be compared. It is sealed as results of audits are.
"""

import hashlib
from typing import Any

import msgspec

from auditor.content.place import Place
from auditor.content.state import ENDING, Seal
from auditor.conversion.facts import TaskValues
from auditor.conversion.plan import Task
from auditor.sources import Source
from auditor.version import __version__

_TASK_BYTES, _PAIR_BYTES, _MOST = 1 << 20, 16 << 10, 256 << 20


class State:
    """The place. `settings` are what a result depends on beside the files."""

    def __init__(self, place: Place, seal: Seal, sources: tuple[Source, Source], settings: dict[str, Any]) -> None:
        self._place, self._seal, self._sources = place, seal, sources
        self._settings = {"tool": __version__, "sources": [each.identity for each in sources], **settings}

    def load(self, task: Task) -> TaskValues | None:
        """A task's finished result, if nothing has changed since; anything odd counts as not finished."""
        most = min(_TASK_BYTES + _PAIR_BYTES * len(task.pairs), _MOST)
        saved = self._seal.opened(self._place.read(_name(task), most), TaskValues)
        if saved is None:
            return None
        key, values = saved
        wanted = [(pair.old.name, pair.new.name) for pair in task.pairs]
        if [(each.old, each.new) for each in values.pairs] != wanted or values.file != task.file:
            return None
        return values if key == self._key(task, (values.old_stamps, values.new_stamps)) == self._key(task) else None

    def save(self, task: Task, values: TaskValues) -> None:
        """Make a result durable; raises OSError where the disk does not take it."""
        key = self._key(task, (values.old_stamps, values.new_stamps))
        if key is not None:
            self._place.write(_name(task), self._seal.wrapped(key, values), durable=True)

    def _key(self, task: Task, known: tuple[dict[str, str | None], dict[str, str | None]] | None = None) -> str | None:
        """What a result follows from; None where nothing tells whether a file has changed since."""
        stamps = []
        for side, source in enumerate(self._sources):
            held = [(pair.old, pair.new)[side] for pair in task.pairs]
            files = {each.file for each in held} | {each.scale.file for each in held if each.scale is not None}
            for file in sorted(files):
                now = source.stamp(file)
                # What nothing was read of, as where shapes differ, has no stamp of its own.
                stamps.append([side, file, now if known is None else known[side].get(file, now)])
        if any(stamp is None for *_, stamp in stamps):
            return None
        pairs = hashlib.sha256(msgspec.json.encode(task)).hexdigest()
        depends = {**self._settings, "pairs": pairs, "stamps": stamps}
        return hashlib.sha256(msgspec.json.encode(depends, order="sorted")).hexdigest()


def _name(task: Task) -> str:
    return f"values-{hashlib.sha256(task.file.encode()).hexdigest()[:24]}.{ENDING}"
