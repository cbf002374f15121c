"""Is one checkpoint another one converted: both opened, every tensor's values compared, and the verdict."""

from contextlib import ExitStack
from pathlib import Path

from auditor.content import check_extra, check_numba
from auditor.content.formats import Formats, declared_blocks
from auditor.conversion import Comparing
from auditor.conversion.dropped import Declared
from auditor.conversion.judge import judged
from auditor.errors import UsageError
from auditor.questions.diff import Side, difference, read_evidence
from auditor.sources import Source, open_source
from auditor.text import shown
from auditor_schemas.diff import CheckpointDiff


def compare_values(old: str, new: str, how: Comparing) -> CheckpointDiff:
    """The difference of two checkpoints, with what their values say. Raises SourceError, UsageError."""
    check_extra("full")
    check_numba("full")
    for label, path in (("OLD", old), ("NEW", new)):
        if Path(path).is_file():
            raise UsageError(f"--values reads tensor data, and {label} is a file: {shown(path)}; give a checkpoint")
    from auditor.conversion.read import Opened
    from auditor.conversion.read import compare_values as compare
    from auditor.conversion.weights import side_of

    sides: list[Side] = []
    opened: list[Opened] = []
    declared: list[Declared] = []
    with ExitStack() as stack:
        for label, path in (("OLD", old), ("NEW", new)):
            evidence, side = read_evidence(path, label)
            source: Source = open_source(path)
            stack.callback(source.close)
            sides.append(side)
            weights = side_of(
                evidence.inventory, Formats(declared_blocks(evidence.configuration.config), evidence.expectations)
            )
            opened.append(Opened(label=label, source=source, inventory=evidence.inventory, side=weights))
            declared.append(Declared(evidence.configuration.fields, evidence.expectations))
        found = compare(opened[0], opened[1], how)
    return difference(*sides).model_copy(update={"values": judged(found, *declared)})
