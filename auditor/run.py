"""Composes the stages into one audit: gathers, derives, applies every rule, attributes, decides, reports."""

import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import asdict

from auditor.comparison import count, value_facts
from auditor.comparison.derive import count_subjects, facts_of, unjudged, unread_formats
from auditor.comparison.parallel import expert_parallelism, parallelism, pipeline_parallelism
from auditor.comparison.records import Match
from auditor.comparison.structure.facts import unread_patterns
from auditor.content import Reading, check_extra, check_numba
from auditor.content.probes import Content
from auditor.errors import AuditorError, SourceError, Unread, UsageError, code_of
from auditor.families.configure import Configuration
from auditor.gather import Evidence, Subject, gather
from auditor.inventory.facts import Blocked
from auditor.inventory.walk import Progress
from auditor.reporting import summary
from auditor.reporting.map import locate, map_cells
from auditor.reporting.storage import storage
from auditor.reporting.structure import structure
from auditor.reporting.structure_layout import layout_of
from auditor.rules import catalogue
from auditor.sources import Symlinks
from auditor.startup import exhaustion
from auditor.text import quoted, shown
from auditor.verdict.apply import apply_rules
from auditor.verdict.attribute import trace
from auditor.verdict.gate import FailOn
from auditor.verdict.measure import Measure, policy_of
from auditor.version import __version__
from auditor_schemas.policy import Policy
from auditor_schemas.report import AuditReport, Digest, Run, RunNode, Tool
from auditor_schemas.rule import Failure

if TYPE_CHECKING:
    from auditor.verdict.baseline import Baseline

_CANCELLED = "cancelled before tensor data was read"


class Terms(Struct, frozen=True, kw_only=True):
    """How to judge: a policy or the path of one, the path of a baseline, and what fails."""

    policy: Policy | str | PathLike[str] | None = None
    baseline: str | PathLike[str] | None = None
    fail_on: FailOn = "error"


class _Start(NamedTuple):
    """When an audit began."""

    at: datetime
    clock: float


def audit(
    source: str | PathLike[str],
    *,
    depth: Literal["headers", "sample", "full"] = "headers",
    family: str | None = None,
    policy: Policy | str | PathLike[str] | None = None,
    baseline: str | PathLike[str] | None = None,
    symlinks: Symlinks | None = None,
    fail_on: FailOn = "error",
    progress: Progress | None = None,
    reading: Reading | None = None,
    revision: str | None = None,
    cache: bool = True,
    hosts: Iterable[str] | None = None,
    private: bool = True,
    roots: Iterable[str | PathLike[str]] | None = None,
) -> AuditReport:
    """Audit a checkpoint and report everything that was found.

    `source` is a folder with config.json and shards, or a checkpoint at hf://, s3://, gs://, az:// or https://,
    of which only what the depth asks for is fetched. `revision` is the hub's branch, tag or commit; `cache` keeps
    headers that were fetched, for this user alone. `depth` sample and full also read tensor bytes (extra
    `content`); `reading` then says how. `family` forces a model family whatever model_type says; `structure` is for
    none, which holds a checkpoint against itself alone. `policy` is a Policy or the path of a TOML file. `baseline` is
    the path of a report whose findings do not gate again.
    `symlinks` outranks the policy's. `progress(done, total)` is called per shard.

    For sources that others name: `hosts` are the only ones that may be asked, those that a source's own redirects lead
    to included. With `private` false an address that is not public is refused, judged on the address that is connected
    to, and a proxy that the environment names is not used. `roots` are folders below which a local one has to be, after
    symlinks are resolved; None allows all.
    Raises UsageError for arguments that cannot be, SourceError where there is nothing to audit, AuditorError with a
    code where this machine has no memory, threads or descriptors left; damage is never an exception.
    """
    subject = Subject(
        source=str(source),
        family=family,
        revision=revision,
        cache=cache,
        symlinks=symlinks,
        reading=_reading(depth, reading),
        hosts=None if hosts is None else frozenset(hosts),
        private=private,
        roots=None if roots is None else tuple(map(str, roots)),
    )
    try:
        return conduct(subject, Terms(policy=policy, baseline=baseline, fail_on=fail_on), progress)[1]
    except Exception as error:
        lack = None if isinstance(error, AuditorError) else exhaustion(error)
        if lack is None:
            raise
        code = code_of(error)
    # Only here is gone what the exception held: whoever goes on may need the memory.
    raise AuditorError(f"{lack}: nothing was decided", code=code)


def _reading(depth: str, reading: Reading | None) -> Reading | None:
    if depth not in ("headers", "sample", "full"):
        raise UsageError(f"depth {quoted(depth)}: choose headers, sample or full")
    if depth == "headers":
        return None
    return replace(reading or Reading(depth="full"), depth=depth)  # type: ignore[arg-type]  # one of the two


def conduct(
    subject: Subject, terms: Terms, progress: Progress | None = None, *, summarised: bool = True
) -> tuple[Evidence, AuditReport]:
    """One audit: what was read, and what follows from it.

    `summarised`: with what only a saved report shows, storage, parallelism, and of values groups and digests.
    """
    if subject.reading is not None and subject.reading.part is not None:
        raise UsageError("a part of a reading has no verdict: leave the part out to judge them all")
    if subject.reading is not None:
        check_extra(subject.reading.depth)
        if subject.reading.resume is None:  # else it may be that all is read, and needs no kernels
            check_numba(subject.reading.depth)
    start = _Start(datetime.now(UTC), time.perf_counter())
    measure = measure_of(subject, terms)
    evidence = gather(subject, measure, progress)
    report = _report(evidence, measure, subject.reading, start, summarised=summarised)
    return evidence, report.model_copy(update=_summaries(evidence)) if summarised else report


# --- what findings are judged by ---


def measure_of(subject: Subject, terms: Terms) -> Measure:
    """Policy and baseline, read before anything else."""
    if terms.fail_on not in ("error", "warning", "never"):
        raise UsageError(f"fail_on {quoted(terms.fail_on)}: choose error, warning or never")
    policy, digest = policy_of(terms.policy, subject.symlinks)
    return Measure(policy, digest, _baseline(terms.baseline, subject.depth, policy.limits.tensors), terms.fail_on)


def _baseline(path: str | PathLike[str] | None, depth: str, most: int) -> "Baseline | None":
    if path is None:
        return None
    from auditor.reporting.saved import read_digested
    from auditor.verdict.baseline import baseline_of

    try:
        report, digest = read_digested(path)
    except (SourceError, UsageError) as error:
        raise UsageError(f"baseline {error}") from error
    return baseline_of(report, name=f"baseline {shown(str(path))}", sha256=digest, depth=depth, most=most)


# --- what follows from it ---


def _report(
    evidence: Evidence, measure: Measure, reading: Reading | None, start: _Start, *, summarised: bool
) -> AuditReport:
    """Facts, failures, findings, verdict, and the report of them all."""
    inventory, configuration, content = evidence.inventory, evidence.configuration, evidence.content
    facts = _facts(evidence, measure.policy, reading)
    failures, outcomes, crashed = apply_rules(measure.severities(catalogue()), facts, count_subjects(facts))
    match = facts["match"] if isinstance(facts["match"], Match) else None
    found = locate(trace(failures, inventory), None if match is None else evidence.expectations)
    judgement = measure.judged(found, outcomes, inventory, start.at.date())
    incomplete = _incomplete(evidence, reading, facts, crashed)
    probes = content.probes if content is not None else None
    depth = "headers" if reading is None else reading.depth
    inventory_summary = summary.inventory_summary(inventory, evidence.census)
    coverage = summary.coverage(inventory, incomplete, probes)
    verdict, unmet = measure.verdict(
        judgement.findings,
        incomplete,
        coverage,
        depth=depth,
        payload_bytes=inventory_summary.payload_bytes,
        fp8_blocks=summary.fp8_blocks(evidence.census),
        nothing_expected=_nothing_expected(configuration, facts),
    )
    baseline = measure.baseline
    return AuditReport(
        tool=Tool(name="auditor", version=__version__),
        source=summary.source(evidence.source, inventory, evidence.config_file),
        run=Run(
            depth=depth,
            seed=probes.seed if probes is not None else None,
            device=probes.device if probes is not None else None,
            engine="local" if reading is None else reading.engine.partition(":")[0],
            started_at=start.at,
            duration_s=round(time.perf_counter() - start.clock, 3),
            resumed_shards=content.resumed if content is not None else None,
            nodes=() if content is None else tuple(RunNode(**asdict(each)) for each in content.nodes),
        ),
        family=configuration.family.name if configuration.family else None,
        verdict=verdict,
        incomplete=tuple(map(str, incomplete)),
        incomplete_codes=tuple(each.code for each in incomplete),
        fail_on=measure.fail_on,
        policy=Digest(sha256=measure.sha256) if measure.sha256 else None,
        baseline=Digest(sha256=baseline.sha256) if baseline is not None and baseline.sha256 else None,
        unmet=tuple(unmet),
        waivers=judgement.waivers,
        gone=judgement.gone,
        outcomes=tuple(outcomes),
        findings=judgement.findings,
        inventory=inventory_summary,
        coverage=coverage,
        parallelism=(),
        **_map(evidence, facts, match, failures),
        **_probes(content, summarised=summarised),
        **{"figures": () if isinstance(facts["figures"], Blocked) else facts["figures"], **structure(facts, verdict)},
    )


def _nothing_expected(configuration: Configuration, facts: dict[str, Any]) -> str | None:
    """Why nothing was expected of the tensors, where that is not what was asked for."""
    asked = configuration.family is not None and not configuration.family.expects and not configuration.faults
    return None if asked or not isinstance(facts["expectations"], Blocked) else facts["expectations"].reason


def _facts(evidence: Evidence, policy: Policy, reading: Reading | None) -> dict[str, Any]:
    """Every fact by the name that rules ask for it."""
    facts = facts_of(
        evidence.inventory,
        evidence.config_file,
        evidence.configuration,
        evidence.expectations,
        evidence.census,
        policy.limits,
    )
    probes = value_facts.NOT_READ if reading is None else Blocked(_CANCELLED)
    read = probes if evidence.content is None else evidence.content.probes
    return {
        **facts,
        "policy": policy,
        **value_facts.content_facts(
            read,
            value_facts.declared_digests(evidence.inventory),
            config=facts["config"],
            thresholds=policy.thresholds,
        ),
    }


def _incomplete(
    evidence: Evidence, reading: Reading | None, facts: dict[str, Any], crashed: list[Unread]
) -> tuple[Unread, ...]:
    """Why the audit is not whole. Two readers may stumble over the same file: that it changed is said once."""
    content, configuration = evidence.content, evidence.configuration
    reasons = [*evidence.inventory.reasons, *(content.unread if content is not None else ())]
    if reading is not None and content is None:
        reasons.append(Unread(_CANCELLED, "cancelled"))
    reasons.extend(unjudged(configuration, evidence.inventory))
    reasons.extend(unread_formats(facts))
    reasons.extend(unread_patterns(facts))
    reasons.extend(crashed)
    return tuple(dict.fromkeys(reasons))


def _map(evidence: Evidence, facts: dict[str, Any], match: Match | None, failures: list[Failure]) -> dict[str, Any]:
    """The report's layout, cells and tallies: the tensors by pattern, by layer and module, and by component."""
    inventory, expectations, census = evidence.inventory, evidence.expectations, evidence.census
    alone = facts["patterns"]
    if isinstance(alone, Blocked):
        layout, unlisted = summary.layout(inventory, expectations, match, census)
    else:
        layout, unlisted = layout_of(alone)
    cells, uncelled = map_cells(expectations, match, failures)
    tally = count.tally(inventory, None, census) if isinstance(facts["tally"], Blocked) else facts["tally"]
    return {
        "layout": layout,
        "cells": cells,
        "left_out": {name: more for name, more in (("layout", unlisted), ("cells", uncelled)) if more},
        "tallies": summary.tallies(tally),
    }


def _probes(content: Content | None, *, summarised: bool) -> dict[str, Any]:
    """The report's part about values, where content was read."""
    if content is None:
        return {}
    from auditor.reporting import evidence

    if not summarised:
        return {"probes": evidence.outline(content.probes)}
    return {"probes": evidence.probes(content.probes), "content_digest": evidence.content_digest(content.probes)}


def _summaries(evidence: Evidence) -> dict[str, Any]:
    """What the bytes of the checkpoint, and those that the config implies, are where and on how many machines."""
    config, expectations = evidence.configuration.config, evidence.expectations
    stored = storage(evidence.inventory, expectations, evidence.census)
    if config is None or expectations is None:
        return {"storage": stored, "parallelism": ()}
    return {
        "storage": stored,
        "parallelism": parallelism(config, expectations),
        "expert_parallelism": expert_parallelism(config, expectations),
        "pipeline_parallelism": pipeline_parallelism(config, expectations),
    }
