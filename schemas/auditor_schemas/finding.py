"""Findings, what excuses them, and what of a baseline is gone."""

from datetime import date
from typing import Any, Literal

from pydantic import Field

from auditor_schemas.record import Record
from auditor_schemas.rule import Severity

_NUMBERS = "[0-9]{1,9}(-[0-9]{1,9})?"
_PLACE = f"(top|{_NUMBERS}(/{_NUMBERS})?)"
# Modules with their places; what is outside the layers is at the top.
_CELLS = f"^([^:;]+:{_PLACE}(,{_PLACE})*(;[^:;]+:{_PLACE}(,{_PLACE})*)*)?$"


class Location(Record):
    """The primary place of a finding. `bytes` is a half-open range of the file."""

    file: str | None = None
    tensor: str | None = None
    field: str | None = None
    bytes: tuple[int, int] | None = None


class Waiver(Record):
    """Why a finding does not gate, who answers for it, and until when."""

    reason: str
    owner: str | None
    expires: date


class Finding(Record):
    """One root cause, or one consequence of another finding (`caused_by` holds that one's fingerprint).

    `count` is the number of failing subjects; `affected` lists the tensors complete, in {a-b} patterns in which an
    opening brace of a name is written [{]. The first `affected_files` of it are files, by their paths as they are;
    None in reports that do not say it. Of what a hostile checkpoint makes too long to list, `more` counts the
    tensors, files or members left out; such a finding is neither known nor waived.
    `members` are the fingerprints of the subjects one by one, where they are not tensors. `uncovered` is what
    of it neither baseline nor waiver covers, where they cover a part: the finding then gates as a whole.
    `cells` are those of the report's map that it is in, by module, layers and experts:
    'experts:3-60/0-127,61;norms:top', where 61 alone is all of that layer's, and top is outside the layers.
    """

    rule: str
    slug: str
    severity: Severity
    message: str
    location: Location
    expected: Any = None
    actual: Any = None
    count: int
    affected: tuple[str, ...]
    affected_files: int | None = Field(default=None, ge=0)
    caused_by: str | None = None
    fingerprint: str
    status: Literal["new", "known", "waived"] = "new"
    waiver: Waiver | None = None
    members: tuple[str, ...] = ()
    uncovered: tuple[str, ...] = ()
    more: int = Field(default=0, ge=0)
    cells: str = Field(default="", pattern=_CELLS)

    @property
    def patterns(self) -> tuple[str, ...]:
        """What of `affected` are tensors. Where a report does not say it, a file is known by how its name ends."""
        if self.affected_files is not None:
            return self.affected[self.affected_files :]
        return tuple(each for each in self.affected if not each.endswith((".safetensors", ".json")))


class WaiverUse(Record):
    """One waiver of the policy and what became of it.

    used: it waived findings. partial: of each finding it matched, it covers a part, so none is waived.
    unused: it matched nothing. expired: it no longer waives. not_run: its rule did not run, so nothing is known.
    `findings` counts those of which it covers something (expired: would cover), `members` the tensors, files
    or fields.
    """

    rule: str
    slug: str
    tensor: str | None
    file: str | None
    field: str | None
    reason: str
    owner: str | None
    expires: date
    state: Literal["used", "partial", "unused", "expired", "not_run"]
    findings: int
    members: int


class Gone(Record):
    """A finding of the baseline of which `count` members of `of` are no longer there."""

    rule: str
    slug: str
    severity: Severity
    message: str
    fingerprint: str
    count: int
    of: int
