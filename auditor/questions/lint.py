"""config.json and the index alone, without a shard: what can be judged before anything is uploaded.

The rules, their words and the verdict are the audit's; the shards are taken to hold what the index promises.
"""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from auditor.comparison.derive import expectations_of, explain, facts_of, settle, unjudged, unread_formats
from auditor.comparison.match import match, take_census
from auditor.comparison.records import Renaming
from auditor.errors import SourceError, UsageError
from auditor.families.configure import Configuration
from auditor.families.expectations import Expectations
from auditor.families.naming import Naming
from auditor.format.dtypes import FP8, Dtype
from auditor.format.entries import Index, Shard, TensorHeader
from auditor.format.files import CONFIG, INDEX
from auditor.inventory.facts import Blocked, ConfigFile, Inventory
from auditor.opening import open_checkpoint
from auditor.rules import catalogue
from auditor.sources.entry import Entry
from auditor.text import is_relative, shown
from auditor.verdict import gate
from auditor.verdict.attribute import attribute
from auditor_schemas.finding import Finding
from auditor_schemas.policy import DEFAULT_LIMITS, DEFAULT_POLICY
from auditor_schemas.report import Verdict
from auditor_schemas.rule import Failure

# Of these rules the two files say enough; the others need headers, and what did not look has not passed.
_OF_CONFIG = frozenset(
    {
        "CFG101",
        "CFG102",
        "CFG103",
        "CFG104",
        "CFG105",
        "CFG106",
        "CFG108",
        "CFG110",
        "CNT102",
        "QNT111",
        "QNT112",
        "QNT121",
    }
)
_OF_INDEX = frozenset({"FIL102", "FIL106", "IDX102", "IDX104", "IDX112", "NAM112"})
_OF_NAMES = frozenset(
    {
        "CFG107",
        "CFG111",
        "NAM101",
        "NAM102",
        "NAM103",
        "NAM104",
        "NAM107",
        "NAM111",
        "MTP101",
        "MTP102",
        "MTP104",
        "QNT101",
        "QNT103",
        "QNT105",
        "QNT107",
        "QNT113",
    }
)
DECIDED = _OF_CONFIG | _OF_INDEX | _OF_NAMES

# What these say of shards is not known here.
BY_THE_INDEX = {
    "NAM101": "the config implies the tensor, the index has no shard for it",
    "NAM102": "the index has the tensor, the config does not imply it",
    "QNT101": "the config implies FP8, the index has no weight_scale_inv for it",
    "QNT103": "the index has a scale, the config implies no FP8 weight for it",
}


@dataclass(frozen=True, kw_only=True)
class Linted:
    """What two files of a folder say: the verdict, every finding, what could not be judged, and who looked."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    unread: tuple[str, ...]
    files: tuple[str, ...]
    rules: int


def folders_of(arguments: list[str]) -> list[str]:
    """The folder of each checkpoint that the arguments name, by file or folder. Raises UsageError for another file."""
    folders: dict[str, None] = {}
    for argument in arguments:
        path = Path(argument)
        if path.name in (CONFIG, INDEX):
            folders[str(path.parent)] = None
        elif path.is_dir():
            folders[str(path)] = None
        else:
            raise UsageError(f"{shown(argument)}: lint reads {CONFIG} and {INDEX}, give one of these or their folder")
    return list(folders)


def lint(folder: str, *, family: str | None = None) -> Linted:
    """The findings of config.json and the index of a folder, as the audit finds them."""
    with open_checkpoint(folder, family=family) as checkpoint:
        config, index, configuration = checkpoint.config_file, checkpoint.index(), checkpoint.configuration()
    if config.state == "absent" and index is None:
        raise SourceError(f"{shown(folder)}: neither {CONFIG} nor {INDEX} is there")
    unread: list[str] = [f"{INDEX}: {index.reason}"] if index is not None and index.state == "unread" else []
    facts = _facts(config, configuration, index)
    unread += unjudged(configuration, facts["inventory"])
    unread += unread_formats(facts)
    failures, rules = _failures(facts, index)
    findings = attribute(failures, Inventory((), index))  # locations come from the index alone
    return Linted(
        verdict=gate.decide(findings, unread, "error"),
        findings=findings,
        unread=tuple(unread),
        files=tuple(each for each, there in ((CONFIG, config.state != "absent"), (INDEX, index)) if there),
        rules=rules,
    )


def _facts(config: ConfigFile, configuration: Configuration, index: Index | None) -> dict[str, Any]:
    """The audit's facts, of shards that hold what the index promises and the config implies for it."""
    configuration = settle(configuration, lambda expected: _promise(index, expected))
    expectations = expectations_of(configuration)
    inventory = _promise(index, expectations)
    census = take_census(inventory, expectations)
    facts = facts_of(inventory, config, configuration, expectations, census, DEFAULT_LIMITS)
    facts["policy"] = DEFAULT_POLICY
    return facts if expectations is None else facts | _by_names(inventory, configuration, expectations)


def _failures(facts: dict[str, Any], index: Index | None) -> tuple[list[Failure], int]:
    """What the rules find that two files are enough for, and how many of them looked."""
    wanted = _OF_CONFIG
    if index is not None and index.state != "unread":
        wanted |= _OF_INDEX
        # Without a config nothing is expected of names.
        if index.state == "read" and not isinstance(facts["expectations"], Blocked):
            wanted |= _OF_NAMES
    failures: list[Failure] = []
    ran = 0
    for module in catalogue():
        if module.rule.id in wanted and not any(isinstance(facts.get(name), Blocked) for name in module.needs):
            failures += module.check(**{name: facts[name] for name in module.needs})
            ran += 1
    return failures, ran


def _promise(index: Index | None, expectations: Expectations | None) -> Inventory:
    """The shards as the index promises them, each tensor with the shape and dtype that the config implies for it."""
    if index is None:
        return Inventory(())
    names = {} if expectations is None else expectations.names
    scale = (Naming() if expectations is None else expectations.naming).scale
    declared = expectations is not None and any(row.quantised for row in expectations.layers_of)
    shards = []
    for path in index.files:
        tensors = {}
        for name in index.names_in(path):
            row = names.get(name)
            dtype = row.dtype if row else "BF16"
            # A weight with a scale beside it is FP8, unless the config says otherwise of this very weight.
            if (row is None or not declared) and scale(name) in index.weight_map:
                dtype = FP8
            tensors[name] = TensorHeader(dtype, row.shape if row else (), (0, 0))
        shards.append(Shard(path, 0, "read", tensors=tensors))
    entries = {path: Entry("file") for path in index.files if is_relative(path)}
    return Inventory(tuple(shards), index, entries)


class _AnyShape(tuple[int, ...]):
    """The shape of a tensor that no config implies: for all that its name says, it may be any."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = tuple.__hash__


def _by_names(inventory: Inventory, configuration: Configuration, expectations: Expectations) -> dict[str, Any]:
    """What names disagree about, and the causes that they show. In the place of shapes are kinds of names."""
    config, family = configuration.config, configuration.family
    assert config is not None
    assert family is not None
    # Dense and MoE layers both have names of the layout, whichever the config has.
    every = (
        family.expectations(config.model_copy(update={"first_k_dense_replace": n})) for n in (0, config.layer_count)
    )
    kinds = {
        row.suffix: (number,)
        for number, row in enumerate(chain.from_iterable(each.layers_of for each in every), _NO_SUM)
    }

    def header(name: str) -> TensorHeader:
        return TensorHeader(_DTYPE, kinds.get(expectations.naming.kind_of(name), _AnyShape()), (0, 0))

    def without_shapes(expected: Expectations) -> Expectations:
        bare = {row: replace(row, shape=kinds.get(row.suffix, ()), dtype=_DTYPE) for row in expected.layers_of}
        return Expectations(
            tuple(map(bare.__getitem__, expected.top)),
            tuple(replace(each, rows=tuple(map(bare.__getitem__, each.rows))) for each in expected.templates),
            expected.mtp_layers,
            expected.naming,
            expected.own,
            expected.export,
        )

    shards = [replace(shard, tensors={name: header(name) for name in shard.tensors}) for shard in inventory.shards]
    bare = Inventory(tuple(shards), inventory.index)
    named = replace(family, expectations=lambda config: without_shapes(family.expectations(config)))
    expected = without_shapes(expectations)
    found = match(bare, expected)
    facts = explain(bare, replace(configuration, family=named), expected, found, DEFAULT_LIMITS)
    # Without shapes one word for another is a guess, unless it accounts for everything.
    explained_by_names = {name for renaming in facts["renamings"] for name in renaming.explains}
    if found.without(explained_by_names).faults:
        facts["renamings"] = tuple(each for each in facts["renamings"] if not _is_reworded(each))
    return facts


def _is_reworded(renaming: Renaming) -> bool:
    """Whether one word stands in the place of another one, as opposed to a piece too many, too few or moved."""
    return renaming.found.count(".") == renaming.needed.count(".") == 1


_DTYPE: Dtype = "BF16"
_NO_SUM = 10**9  # numbers of kinds begin here, so that none is a sum, a part or a multiple of others
