"""The modules that an export leaves unquantised are those that are stored so; loaders go by the list alone."""

from collections.abc import Iterator

from auditor.comparison.records import Misdeclared
from auditor.families.expectations import Expectations
from auditor.text import UNSHOWN, named, plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT120",
    slug="wrong-exclusion-list",
    title="The list of unquantised modules contradicts the tensors",
    severity=Severity.ERROR,
    scope=Scope.CHECKPOINT,
    examines="tensors",
)


def check(misdeclared: tuple[Misdeclared, ...], expectations: Expectations) -> Iterator[Failure]:
    """One failure for each format that is declared and the one that is found in its place."""
    export = expectations.export
    assert export is not None or not misdeclared
    for each in misdeclared:
        assert export is not None
        weights = plural(len(each.modules), "weight")
        if each.entries:
            named_by = named(each.entries[0]) if export.shown else f"an entry ({UNSHOWN})"
            more = f" and {len(each.entries) - 1:,} more" if len(each.entries) > 1 else ""
            how = f"{named_by}{more} in {export.list_field} leaves out {weights} that {each.found} is stored for"
        else:
            where = _where(each, expectations)
            how = f"{export.list_field} leaves {weights}{where} to be {each.needed}, they are stored as {each.found}"
        yield RULE.failure(
            f"{how}, such as {named(each.stored)}",
            file=export.file,
            tensor=each.stored,
            field=export.list_field,
            expected=each.needed,
            actual=each.found,
            tensors=tuple(name for name in each.explains if name.rpartition(".")[2] in ("weight", each.last)),
            takes=each.explains,
        )


def _where(each: Misdeclared, expectations: Expectations) -> str:
    """The layer that all of them are of, where it is one."""
    layers = {expectations.naming.layer_of(f"{module}.") for module in each.modules}
    return f" of layer {next(iter(layers))}" if len(layers) == 1 and None not in layers else ""
