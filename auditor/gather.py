"""What one audit reads of a checkpoint: config, headers and, where that is asked, the bytes of tensors."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from auditor.comparison.derive import expectations_of, settle
from auditor.comparison.match import CensusTaker
from auditor.comparison.records import Census
from auditor.content import Reading
from auditor.content.probes import Content
from auditor.errors import SourceError, UsageError
from auditor.families import STRUCTURE
from auditor.families.configure import Configuration
from auditor.families.expectations import Expectations
from auditor.format.files import INDEX
from auditor.inventory.facts import ConfigFile, Inventory
from auditor.inventory.walk import Progress
from auditor.opening import Checkpoint, open_checkpoint
from auditor.reporting import summary
from auditor.rules import catalogue
from auditor.sources import Source, Symlinks
from auditor.verdict.measure import Measure

if TYPE_CHECKING:
    from auditor.content.away import Opening


class Subject(Struct, frozen=True, kw_only=True):
    """What to audit: a checkpoint by name, or an open source, which the audit closes; as which family; how deep.

    `named` is what an open source was opened as, where other machines are to open it too. `symlinks` outranks the
    policy's. `reading` None is depth headers. `hosts`, `private` and `roots` say what may be read, as `open_source` has
    them.
    """

    source: str | Source
    named: str | None = None
    family: str | None = None
    revision: str | None = None
    cache: bool = True
    symlinks: Symlinks | None = None
    reading: Reading | None = None
    hosts: frozenset[str] | None = None
    private: bool = True
    roots: tuple[str, ...] | None = None

    @property
    def depth(self) -> Literal["headers", "sample", "full"]:
        """How deep."""
        return "headers" if self.reading is None else self.reading.depth


class Evidence(Struct, frozen=True, kw_only=True):
    """What was read of a checkpoint, and what its config implies. `content` None: no tensor data was read."""

    source: Source
    config_file: ConfigFile
    configuration: Configuration
    expectations: Expectations | None
    inventory: Inventory
    census: Census
    content: Content | None


def gather(subject: Subject, measure: Measure, progress: Progress | None) -> Evidence:
    """All that is read of a checkpoint; it is closed afterwards."""
    _refuse_to_pass_on(subject)
    with open_checkpoint(
        subject.source,
        measure.policy.limits,
        family=subject.family,
        symlinks=measure.policy.symlinks,
        revision=subject.revision,
        cache=subject.cache,
        hosts=subject.hosts,
        private=subject.private,
        roots=subject.roots,
        structure="unknown" if STRUCTURE in (measure.policy.allow.families or ()) else "asked",
    ) as checkpoint:
        # All that the headers are no part of comes first, imports too: what a remote source fetches arrives meanwhile.
        configuration = checkpoint.configuration()
        if measure.baseline is not None and configuration.family is not None:
            measure.baseline.refuse_other_family(configuration.family.name)
        expectations = expectations_of(configuration)
        taker = CensusTaker(expectations)
        catalogue()
        summary.prepare()
        inventory = checkpoint.inventory(progress, seen=taker.add)
        _refuse_nothing(checkpoint, inventory)
        declared, configuration = configuration, settle(configuration, lambda _: inventory)
        if configuration is not declared:
            expectations = expectations_of(configuration)
            taker = CensusTaker(expectations)
        return Evidence(
            source=checkpoint.source,
            config_file=checkpoint.config_file,
            configuration=configuration,
            expectations=expectations,
            inventory=inventory,
            census=taker.census(inventory),
            content=_content(checkpoint.source, inventory, configuration, expectations, subject, measure),
        )


def _refuse_nothing(checkpoint: Checkpoint, inventory: Inventory) -> None:
    if (
        checkpoint.config_file.state == "absent"
        and not any(entry.kind == "broken-link" for entry in inventory.entries.values())
        and not inventory.shards
        and INDEX not in inventory.entries
        and not inventory.unread
    ):
        uri = checkpoint.source.uri
        raise SourceError(f"{uri}: nothing to audit: no config.json, no index and no *.safetensors file")


def _content(
    source: Source,
    inventory: Inventory,
    configuration: Configuration,
    expectations: Expectations | None,
    subject: Subject,
    measure: Measure,
) -> Content | None:
    """What the bytes of tensors say; the libraries that read them are imported for it alone."""
    reading = subject.reading
    if reading is None or inventory.cancelled:
        return None
    from auditor.content.formats import declared_blocks
    from auditor.content.read import read_content

    mtp_layers = expectations.mtp_layers if expectations is not None else ()
    try:
        return read_content(
            source,
            inventory,
            declared_blocks(configuration.config),
            reading,
            mtp_layers=mtp_layers,
            expectations=expectations,
            opening=_opening(source, subject, measure),
        )
    except KeyboardInterrupt:  # before anything was read: the headers' report stands
        return None


def _refuse_to_pass_on(subject: Subject) -> None:
    """Raise UsageError where other machines would be given credentials: they stand in what they open the source by."""
    name = subject.source if isinstance(subject.source, str) else subject.named or ""
    if subject.reading is None or subject.reading.engine == "local" or not name.lower().startswith("http"):
        return
    address = name.partition("://")[2].partition("#")[0]
    if "?" in address or "@" in address.partition("/")[0]:
        raise UsageError(
            "--engine ray: a user or query in the source's address would go to every node: leave it out, and give each "
            "node a ~/.netrc"
        )


def _opening(source: Source, subject: Subject, measure: Measure) -> "Opening | None":
    """How other machines open what this audit has open, at the same revision; None where none is to."""
    from auditor.content.away import Opening

    if subject.reading is None or subject.reading.engine == "local":
        return None
    name = subject.source if isinstance(subject.source, str) else subject.named
    if name is None:
        raise UsageError("other machines open a source by its name: give the name")
    name = name if source.remote else str(Path(name).absolute())
    if source.revision is not None:
        name = name.partition("@")[0]
    return Opening(name, source.revision, measure.policy.symlinks, subject.hosts, subject.private, subject.roots)
