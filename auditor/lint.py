"""config.json and the index alone, without a shard: what can be judged before anything is uploaded."""

from contextlib import closing
from pathlib import Path
from typing import Any

from auditor import gate
from auditor.attribute import attribute
from auditor.configure import Configuration, configure
from auditor.derive import config_facts
from auditor.entry import Entry
from auditor.errors import SourceError, UsageError
from auditor.expectations import Row
from auditor.facts import Blocked, ConfigFile, Index, Inventory, Shard, TensorHeader
from auditor.families import family_named
from auditor.match import match, pair
from auditor.rules import catalogue
from auditor.sources import open_source
from auditor.sources.begin import CONFIG, INDEX
from auditor.text import is_relative, listed, plural, shown
from auditor.walk import read_config, read_index
from auditor_schemas.finding import Finding
from auditor_schemas.policy import DEFAULT_LIMITS
from auditor_schemas.rule import Failure

# Of these rules the two files say enough; the others need headers, and what did not look has not passed.
_OF_CONFIG = frozenset({"CFG101", "CFG102", "CFG103", "CFG104", "CFG105", "CFG106", "CFG108"})
_OF_INDEX = frozenset({"IDX102", "IDX104", "IDX112"})
_OF_NAMES = frozenset({"NAM101", "NAM102", "NAM103", "MTP101", "MTP102", "QNT101", "QNT103", "QNT105"})

# What these say of shards is not known here.
_BY_THE_INDEX = {
    "QNT101": "the config implies FP8, the index has no weight_scale_inv for it",
    "QNT103": "the index has a scale, the config implies no FP8 weight for it",
}


def linted(files: list[str], *, family: str | None = None) -> tuple[str, int]:
    """The findings of each checkpoint that the files belong to, in lines, and the exit code."""
    folders: dict[str, None] = {}
    for file in files:
        path = Path(file)
        if path.name not in (CONFIG, INDEX):
            raise UsageError(f"{shown(file)}: lint reads {CONFIG} and {INDEX}, give one of these")
        folders[str(path.parent)] = None
    text, codes = [], []
    for folder in folders:
        lines, code = _linted(folder, family)
        text += lines
        codes.append(code)
    return "".join(f"{line}\n" for line in text), max(codes)


def _linted(folder: str, family: str | None) -> tuple[list[str], int]:
    with closing(open_source(folder, symlinks="inside")) as source:
        config = read_config(source, DEFAULT_LIMITS)
        index = read_index(source, DEFAULT_LIMITS)
    name = shown(folder)
    if config.state == "absent" and index is None:
        raise SourceError(f"{name}: neither {CONFIG} nor {INDEX} is there")
    configuration = configure(config, DEFAULT_LIMITS, family=family_named(family) if family else None)
    unread = [f"{INDEX}: {index.reason}"] if index is not None and index.state == "unread" else []
    unread += [each for each in (configuration.unsupported, configuration.over_limit) if each]
    failures, ran = _failures(config, configuration, index)
    findings = attribute(failures, Inventory((), index))  # locations come from the index alone
    verdict = gate.decide(findings, unread, "error")
    roots = [each for each in findings if each.caused_by is None]
    read = " and ".join(each for each, there in ((CONFIG, config.state != "absent"), (INDEX, index)) if there)
    lines = [f"{name}: {verdict}, {plural(ran, 'rule')} on {read}, no shard read"]
    lines += [f"  not audited: {shown(reason)}" for reason in unread]
    for finding in roots:
        lines += _told(finding)
    return lines, gate.EXIT_CODES[verdict]


def _told(finding: Finding) -> list[str]:
    place = [each for each in (finding.location.file, finding.location.tensor, finding.location.field) if each]
    count = f" ({finding.count:,} alike)" if finding.count > 1 else ""
    where = f": {shown(' · '.join(place))}" if place else ""
    lines = [f"  {finding.severity.value.upper()} {finding.rule} {finding.slug}{count}{where}"]
    lines.append(f"    {shown(_BY_THE_INDEX.get(finding.rule, finding.message))}")
    if finding.count > 1:
        lines.append(f"    affects {shown(listed(finding.affected, most=4))}")
    return lines


def _failures(config: ConfigFile, configuration: Configuration, index: Index | None) -> tuple[list[Failure], int]:
    """What the rules find that two files are enough for, and how many of them looked."""
    facts: dict[str, Any] = config_facts(config, configuration)
    wanted = set(_OF_CONFIG)
    names: dict[str, Row] = {}
    valid, chosen = configuration.config, configuration.family
    if valid is not None and chosen is not None:
        expectations = chosen.expectations(valid)
        names = expectations.names
        quantization = valid.quantization_config or Blocked("config.json declares no quantisation")
        facts |= {"config": valid, "expected_architectures": chosen.architectures, "quantization": quantization}
    if index is not None and index.state != "unread":
        wanted |= _OF_INDEX
        inventory = _promised(index, names)
        facts |= {"index_file": index, "index": index, "inventory": inventory}
        if names and index.state == "read":
            wanted |= _OF_NAMES
            found = match(inventory, expectations)
            facts |= {"expectations": expectations, "match": found, "pairing": pair(inventory, expectations, found)}
    failures: list[Failure] = []
    ran = 0
    for module in catalogue():
        usable = all(name in facts and not isinstance(facts[name], Blocked) for name in module.needs)
        if module.rule.id in wanted and usable:
            failures += module.check(**{name: facts[name] for name in module.needs})
            ran += 1
    return failures, ran


def _promised(index: Index, names: dict[str, Row]) -> Inventory:
    """The shards as the index promises them, each tensor with the shape and dtype that the config implies for it."""
    shards = []
    for path in index.files:
        tensors = {}
        for name in index.names_in(path):
            row = names.get(name)
            tensors[name] = TensorHeader(row.dtype if row else "BF16", row.shape if row else (), (0, 0))
        shards.append(Shard(path, 0, "read", tensors=tensors))
    entries = {path: Entry("file") for path in index.files if is_relative(path)}
    return Inventory(tuple(shards), index, entries)
