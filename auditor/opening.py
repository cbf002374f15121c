"""A checkpoint as every command opens it: all that will be read is asked for at once, and read within limits."""

from __future__ import annotations  # the models are named here, not imported

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from auditor.errors import UsageError
from auditor.families import Family, family_named, without_family
from auditor.families.configure import Configuration, configure
from auditor.families.quantised import SIDECAR
from auditor.format.files import CONFIG
from auditor.inventory.walk import Progress, read_config, read_index, walk
from auditor.sources import Source, Symlinks, open_source
from auditor.sources.begin import begin
from auditor_schemas.policy import DEFAULT_LIMITS

if TYPE_CHECKING:
    from auditor.format.entries import Index, Shard
    from auditor.inventory.facts import ConfigFile, Inventory
    from auditor_schemas.policy import Limits


class Checkpoint(Struct, frozen=True):
    """An open checkpoint: its source, its config.json as read, and the family that is forced on it, if one is.

    `unknown` is taken for a model_type that no family answers to.
    """

    source: Source
    limits: Limits
    config_file: ConfigFile
    family: Family | None
    unknown: Family | None = None

    def configuration(self) -> Configuration:
        """What config.json says, and hf_quant_config.json where config.json declares no quantisation."""
        sidecar = partial(read_config, self.source, self.limits, SIDECAR)
        return configure(self.config_file, self.limits, family=self.family, unknown=self.unknown, sidecar=sidecar)

    def index(self) -> Index | None:
        """The index alone, or None where there is none."""
        return read_index(self.source, self.limits)

    def inventory(self, progress: Progress | None = None, *, seen: Callable[[Shard], None] | None = None) -> Inventory:
        """The index and every header; see `walk`."""
        return walk(self.source, self.limits, progress, seen=seen)


@contextmanager
def open_checkpoint(
    source: str | Source,
    limits: Limits = DEFAULT_LIMITS,
    *,
    family: str | None = None,
    symlinks: Symlinks = "follow",
    revision: str | None = None,
    cache: bool = True,
    config: str = CONFIG,
    hosts: frozenset[str] | None = None,
    private: bool = True,
    roots: tuple[str, ...] | None = None,
    structure: Literal["never", "asked", "unknown"] = "never",
) -> Iterator[Checkpoint]:
    """Open a source by name, or take one that is open, and close it afterwards; `config` is read as its config.json.

    `hosts`, `private` and `roots` are as `open_source` has them. `structure` says when nothing need be expected of a
    config: never, where the family of that name is asked for, or also where no family answers to the model_type.
    Raises UsageError for a source, an option or a family that cannot be, SourceError where there is nothing.
    """
    forced = family_named(family) if family is not None else None
    if forced is not None and not forced.expects and structure == "never":
        raise UsageError(f"--family {forced.name}: expects nothing of a config, which this needs; audits have it")
    if isinstance(source, str):
        source = open_source(
            source, symlinks=symlinks, revision=revision, cache=cache, hosts=hosts, private=private, roots=roots
        )
    with closing(source) as there:
        if there.remote:
            begin(there, limits)
        unknown = without_family() if structure == "unknown" else None
        yield Checkpoint(there, limits, read_config(there, limits, config), forced, unknown)
