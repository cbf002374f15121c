"""Every file that the index names is named by its plain path within the checkpoint."""

from collections.abc import Iterator

from auditor.format.entries import Index
from auditor.inventory.facts import Inventory
from auditor.text import is_relative, named, plain_path, plural
from auditor_schemas.rule import Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="IDX104",
    slug="unsafe-shard-path",
    title="The index names a file by no plain path within the checkpoint",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="index files",
)


def check(inventory: Inventory, index: Index) -> Iterator[Failure]:
    """One failure per way of spelling, with the paths that the walk did not open as they are written."""
    alike: dict[str, list[str]] = {}
    for path in index.files:
        if path in inventory.entries:
            continue
        if inventory.unread and is_relative(path):
            continue  # not looked at for another reason, which the report names
        alike.setdefault(_spelling(path), []).append(path)
    for spelling, paths in alike.items():
        names = tuple(name for path in paths for name in index.names_in(path))
        plain = None if "://" in paths[0] else plain_path(paths[0])
        needed = "a relative path within the checkpoint" if plain is None else f"{named(plain)}, the plain path"
        what = named(paths[0]) if len(paths) == 1 else f"{len(paths):,} files by {spelling}, such as {named(paths[0])},"
        yield RULE.failure(
            f"weight_map names {what} for {plural(len(names), 'tensor')}, needs {needed}",
            file="model.safetensors.index.json",
            tensor=names[0],
            expected=needed,
            actual=named(paths[0]),
            tensors=names,
            # The file of that name that may be there is the one meant, and no stray.
            takes=(*names, *(File(path.rpartition("/")[2]) for path in paths)),
            fold=spelling,
        )


def _spelling(path: str) -> str:
    if "://" in path:
        return "addresses"
    if "\\" in path:
        return "paths with backslashes"
    if plain_path(path) is not None:
        return "paths with '.' or doubled slashes"
    if path.startswith("/"):
        return "absolute paths"
    return "paths with '..'" if ".." in path.split("/") else "paths that cannot be shown"
