"""Parameter figures, and parameters by component."""

from typing import Literal

from auditor_schemas.record import Record


class Count(Record):
    """One exact parameter count with the convention it follows; the deviation is from the published figure."""

    convention: str
    parameters: int
    deviation_percent: float | None


class Figure(Record):
    """A parameter figure: published (in the unit printed, such as '671B') beside the exact counts."""

    name: str
    published: str | None
    source: str | None
    counts: tuple[Count, ...]
    verdict: Literal["exact", "matches_rounded", "contradicted", "not_applicable"]
    note: str | None = None


class ComponentTally(Record):
    """Parameters of one component, from the config and from the headers. Scale tensors are never parameters."""

    component: str
    from_config: int | None
    from_headers: int


class Tallies(Record):
    """Parameters by component, and what is stored beside them."""

    components: tuple[ComponentTally, ...]
    scale_elements: int
    unclassified_elements: int
