"""A rule's record, and the failures that its check yields before they are attributed to causes."""

from collections.abc import Mapping, Sequence, Set
from enum import StrEnum

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field


class Severity(StrEnum):
    """How much a finding matters.

    error: a loader fails or computes wrong values, or the checkpoint contradicts its config or the format.
    warning: it loads, but something is off. info: worth knowing.
    """

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


# Which of two matters more.
WEIGHT = {Severity.ERROR: 2, Severity.WARNING: 1, Severity.INFO: 0}


class Scope(StrEnum):
    """What a rule speaks about; a wider scope explains the failures of a narrower one on the same tensors."""

    FILE = "file"
    CONFIG = "config"
    CHECKPOINT = "checkpoint"
    MODULE = "module"
    TENSOR = "tensor"
    COUNT = "count"


class File(Struct, frozen=True):
    """A file as what a failure takes along or blames: what is said of its bytes."""

    path: str


class RoundTrip(Struct, frozen=True):
    """The round trip of a weight's blocks: what follows for it, and for nothing else about the weight."""

    tensor: str


class AnyMissing(Struct, frozen=True):
    """Any tensor that is not there: it may have been in a shard whose header is not known."""


class ConfigField(Struct, frozen=True):
    """What one field of config.json says beside the others."""

    name: str


# What a failure may take along or blame. A text is a tensor's name, whatever the name is.
Subject = str | File | RoundTrip | AnyMissing | ConfigField


class Excess(Struct, frozen=True):
    """By how much a sum is too large, and how much of that each tensor makes; negative where something is lacking.

    `unsized` are tensors that are lacking and whose part in the sum nothing tells.
    """

    total: int
    parts: Mapping[str, int]
    unsized: Set[str] = frozenset()


class Failure(Struct, frozen=True, kw_only=True):
    """One failing subject of a rule. Ranges are half-open; `tensors` are the tensors concerned.

    Failures of one rule with the same `fold` become one finding. `takes` is what else the same cause makes fail.
    `blames` is what a cause must have taken to explain this failure: its tensors, unless another one is at the
    root, as the scale is of a missing scale. A sum says its `excess`, once for each way to sum: a cause explains
    it whose tensors make all of one.
    """

    rule: "Rule"
    message: str
    file: str | None = None
    tensor: str | None = None
    field: str | None = None
    begin: int | None = None
    end: int | None = None
    expected: object = None
    actual: object = None
    tensors: Sequence[str] = ()
    takes: Sequence[Subject] = ()
    blames: Sequence[Subject] = ()
    excess: Sequence[Excess] = ()
    fold: object = None


class Rule(BaseModel):
    """The record of one rule. `examines` names what its outcome counts, such as tensors or shards."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(pattern=r"^(CFG|FIL|IDX|HDR|NAM|SHP|QNT|MTP|CNT|VAL)[0-9]{3}$")
    slug: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    title: str
    severity: Severity
    scope: Scope
    examines: str

    def failure(
        self,
        message: str,
        *,
        file: str | None = None,
        tensor: str | None = None,
        field: str | None = None,
        span: tuple[int, int] | None = None,
        expected: object = None,
        actual: object = None,
        tensors: Sequence[str] = (),
        takes: Sequence[Subject] = (),
        blames: Sequence[Subject] = (),
        excess: Sequence[Excess] = (),
        fold: object = None,
    ) -> Failure:
        """One failing subject: `message` states what is there and what was needed, without advice."""
        begin, end = span if span is not None else (None, None)
        return Failure(
            rule=self,
            message=message,
            file=file,
            tensor=tensor,
            field=field,
            begin=begin,
            end=end,
            expected=expected,
            actual=actual,
            tensors=tensors or ((tensor,) if tensor is not None else ()),
            takes=takes,
            blames=blames,
            excess=excess,
            fold=message if fold is None else fold,
        )
