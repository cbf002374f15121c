"""The HTML page: complete, offline, escaped, under a policy its own blocks satisfy, and readable by machines."""

import base64
import gzip
import hashlib
import html
import json
import re
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from auditor_reports import text
from auditor_reports.html import render
from auditor_schemas.report import (
    AuditReport,
    Cell,
    ComponentTally,
    Count,
    Coverage,
    Figure,
    Finding,
    InventorySummary,
    LayoutRow,
    Location,
    Parallelism,
    RuleOutcome,
    Run,
    Source,
    Tallies,
    Tool,
    UnevenSplit,
    Waiver,
)
from auditor_schemas.rule import Severity

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&\x1b[31m\u202egnp.exe\u2066\x00\u2028"
VOID = {"meta", "input", "img", "br", "hr", "link"}
LAYER = "model.layers"
MODULES = {
    "attention": (0, 62), "dense_mlp": (0, 3), "router": (3, 62), "experts": (3, 62), "shared_experts": (3, 62),
    "norms": (0, 62), "mtp": (61, 62),
}  # fmt: skip
COMPONENTS = {
    "embedding": 926_679_040, "head": 926_679_040, "norms": 881_664, "attention": 11_413_422_080,
    "dense_mlp": 1_189_085_184, "router": 106_430_464, "router_bias": 14_848, "routed_experts": 653_908_770_816,
    "shared_experts": 2_554_331_136, "mtp_routed_experts": 11_274_289_152,
}  # fmt: skip
STATES = ("passed", "info", "warning", "error", "unread")


def fingerprint(seed: object) -> str:
    return hashlib.sha256(repr(seed).encode()).hexdigest()


def finding(rule: str, slug: str, severity: str, message: str, **more: Any) -> Finding:
    values: dict[str, Any] = {
        "location": Location(), "count": 1, "affected": (), "fingerprint": fingerprint((rule, message, str(more))),
    }  # fmt: skip
    return Finding(rule=rule, slug=slug, severity=Severity(severity), message=message, **(values | more))


def cells(worst: dict[tuple[int, str], str] | None = None) -> tuple[Cell, ...]:
    top = [Cell(layer=None, module=m, worst="passed", counts={"tensors": 1}) for m in ("embedding", "norms", "head")]
    for layer in range(62):
        for module, (begin, end) in MODULES.items():
            if begin <= layer < end:
                state = (worst or {}).get((layer, module), "passed")
                count = 1536 if module == "experts" else 6
                top.append(Cell(layer=layer, module=module, worst=state, counts={"tensors": count}))
    return tuple(top)


def outcome(rule: str, slug: str, title: str, result: str, **more: Any) -> RuleOutcome:
    values = {"severity": Severity.ERROR, "reason": None, "examined": 91_991} | more
    return RuleOutcome(rule=rule, slug=slug, title=title, outcome=result, **values)


OUTCOMES = (
    outcome("CFG101", "missing-config", "There is no config.json", "passed", examined=1),
    outcome("HDR102", "truncated-shard", "A shard is shorter than its header says", "passed", examined=163),
    outcome("IDX103", "missing-shard", "The index names a file that is not there", "passed", examined=163),
    outcome("SHP101", "wrong-shape", "A tensor has another shape than the config implies", "passed"),
    outcome("VAL101", "invalid-scale", "A block scale is not finite and positive", "not_applicable", examined=0,
            reason="reads payload, and the depth is headers"),
)  # fmt: skip
FIGURES = (
    Figure(name="main model, total", published="671B", source="README_WEIGHTS", verdict="matches_rounded", counts=(
        Count(convention="main model, no scales", parameters=671_026_419_200, deviation_percent=0.004),)),
    Figure(name="main model, activated per token", published="36.7B", source="README_WEIGHTS", verdict="contradicted",
           note="no convention gives 36.7B", counts=(
        Count(convention="with embedding and head", parameters=37_552_297_472, deviation_percent=2.322),
        Count(convention="without the input embedding", parameters=36_625_618_432, deviation_percent=-0.203))),
    Figure(name="everything stored", published=None, source=None, verdict="not_applicable", counts=(
        Count(convention="stored, no scales", parameters=684_489_845_504, deviation_percent=None),)),
)  # fmt: skip


def sound() -> AuditReport:
    """A sound release with notes alone."""
    return AuditReport(
        tool=Tool(name="auditor", version="0.1.0"),
        source=Source(uri="hf://deepseek-ai/DeepSeek-V3", revision="e815299b0bcbac849fa540c768ef21845365c9eb",
                      fingerprint=fingerprint("v3")),
        run=Run(depth="headers", seed=None, device=None, engine="local",
                started_at=datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC), duration_s=4.217),
        family="deepseek_v3", verdict="passed", incomplete=(), fail_on="error", policy=None, baseline=None,
        outcomes=OUTCOMES,
        findings=(
            finding("IDX110", "official-total-size", "info", "metadata.total_size is 2 × the element count",
                    location=Location(file="model.safetensors.index.json", field="metadata.total_size"),
                    expected=688_574_839_360, actual=1_369_062_772_000),
            finding("CNT102", "contradicted-published-figure", "info", "no convention gives the published 36.7B",
                    location=Location(field="main model, activated per token")),
        ),
        figures=FIGURES,
        inventory=InventorySummary(
            tensors=91_991, shards=163, elements=684_531_386_000, payload_bytes=688_574_839_360,
            file_bytes=688_586_727_753,
            by_dtype={"F8_E4M3": 680_571_043_840, "BF16": 3_918_786_560, "F32": 41_555_600}),
        layout=(
            LayoutRow(pattern="lm_head.weight", shape=(129280, 7168), dtype="BF16", count=1,
                      files=("model-00160-of-000163.safetensors",)),
            LayoutRow(pattern=f"{LAYER}.{{3-61}}.mlp.experts.{{0-255}}.down_proj.weight", shape=(7168, 2048),
                      dtype="F8_E4M3", count=15_104,
                      files=tuple(f"model-{{{a:05}-{a + 9:05}}}-of-000163.safetensors" for a in range(1, 160, 20))),
        ),
        cells=cells(),
        parallelism=tuple(
            Parallelism(tensor_parallel=tp, clean=tp < 32, uneven=() if tp < 32 else (
                UnevenSplit(pattern=f"{LAYER}.{{0-2}}.mlp.gate_proj.weight", axis=0, size=18432, partition=576.0,
                            reason="576 is no multiple of 128"),
                UnevenSplit(pattern=f"{LAYER}.{{3-61}}.mlp.experts.{{0-255}}.gate_proj.weight", axis=0, size=2048,
                            partition=64.0, reason="64 is no multiple of 128")))
            for tp in (1, 2, 4, 8, 16, 32)),
        tallies=Tallies(
            components=tuple(ComponentTally(component=c, from_config=n, from_headers=n) for c, n in COMPONENTS.items()),
            scale_elements=41_540_496, unclassified_elements=0),
        coverage=Coverage(payload_bytes_read=0, headers_read=163, shards=163, unread=()),
    )  # fmt: skip


def broken() -> AuditReport:
    """Damage of many kinds, with names made to harm whoever shows them."""
    lost = (f"{LAYER}.{{17-18}}.mlp.experts.{{0-255}}.down_proj.weight", f"{LAYER}.18.self_attn.o_proj.weight")
    root = finding("IDX103", "missing-shard", "error", "is not there, the index places 513 tensors in it",
                   location=Location(file="model-00045-of-000163.safetensors"), expected="a safetensors file",
                   actual="no file", affected=lost)  # fmt: skip
    missing = finding("NAM101", "missing-tensor", "error", "is in no shard", caused_by=root.fingerprint, count=513,
                      affected=lost)  # fmt: skip
    tally = finding("CNT101", "contradicted-count", "error", "headers hold 7,516,192,768 parameters fewer",
                    caused_by=missing.fingerprint, expected=671_026_419_200, actual=663_510_226_432)  # fmt: skip
    scale = finding("QNT102", "mismatched-block-scale", "error", "scale grid is (4, 56), needs (5, 56)",
                    location=Location(file="model-00001-of-000163.safetensors", bytes=(34_127, 35_023),
                                      tensor=f"{LAYER}.0.self_attn.kv_a_proj_with_mqa.weight_scale_inv"),
                    expected=(5, 56), actual=(4, 56), count=62,
                    affected=(f"{LAYER}.{{0-61}}.self_attn.kv_a_proj_with_mqa.weight_scale_inv",))  # fmt: skip
    hostile = finding("NAM102", "unexpected-tensor", "warning", f"stands for nothing: {HOSTILE}", affected=(HOSTILE,),
                      location=Location(tensor=HOSTILE, file=HOSTILE, field=HOSTILE), expected={HOSTILE: [HOSTILE]},
                      actual=HOSTILE)  # fmt: skip
    waived = finding("HDR110", "missing-format-metadata", "warning", "__metadata__ has no format", status="waived",
                     waiver=Waiver(reason=f"ours {HOSTILE}", owner=None, expires=date(2031, 1, 1)))  # fmt: skip
    worst = {(17, "experts"): "error", (18, "experts"): "error", (18, "attention"): "error", (40, "router"): "warning"}
    worst |= {(layer, "attention"): "error" for layer in range(62)}
    report = sound()
    return report.model_copy(update={
        "source": Source(uri=f"s3://bucket/{HOSTILE}", revision=None, fingerprint=None),
        "verdict": "failed",
        "findings": (*report.findings, hostile, tally, waived, missing, scale, root),
        "cells": (*cells(worst), Cell(layer=None, module=HOSTILE, worst="warning", counts={HOSTILE: 1})),
        "outcomes": (
            *OUTCOMES[:2], OUTCOMES[2].model_copy(update={"outcome": "failed"}),
            OUTCOMES[3].model_copy(update={"outcome": "passed", "reason": HOSTILE}), *OUTCOMES[4:]),
        "layout": (*report.layout, LayoutRow(pattern=HOSTILE, shape=(), dtype=HOSTILE, count=1, files=(HOSTILE,))),
        "inventory": report.inventory.model_copy(
            update={"by_dtype": {**report.inventory.by_dtype, HOSTILE: 7, "F4": 9}}),
        "tallies": report.tallies.model_copy(update={"components": (
            *report.tallies.components[:-1],
            ComponentTally(component=HOSTILE, from_config=11_274_289_152, from_headers=3_758_096_384))}),
    })  # fmt: skip


def incomplete() -> AuditReport:
    """Nothing but a listing: every field that may be empty is."""
    return AuditReport(
        tool=Tool(name="auditor", version="0.1.0"),
        source=Source(uri="checkpoint", revision=None, fingerprint=None),
        run=Run(depth="headers", seed=None, device=None, engine="local", started_at=datetime(2025, 1, 2), duration_s=0),
        family=None, verdict="incomplete", incomplete=("model-00002-of-000163.safetensors: permission denied",),
        fail_on="never", policy=None, baseline=None,
        outcomes=(outcome("HDR102", "truncated-shard", "A shard is short", "errored", reason="KeyError: 'x'"),),
        findings=(), figures=(),
        inventory=InventorySummary(tensors=0, shards=1, elements=0, payload_bytes=0, file_bytes=0, by_dtype={}),
        layout=(), cells=(Cell(layer=0, module="attention", worst="unread", counts={}),), parallelism=(),
        tallies=Tallies(components=(ComponentTally(component="norms", from_config=None, from_headers=0),),
                        scale_elements=0, unclassified_elements=0),
        coverage=Coverage(payload_bytes_read=0, headers_read=0, shards=1,
                          unread=("model-00002-of-000163.safetensors: permission denied",)),
    )  # fmt: skip


class Page(HTMLParser):
    """Every tag with its attributes, the text outside scripts, and whatever does not balance."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.blocks: dict[str, list[tuple[dict[str, str], str]]] = {"script": [], "style": []}
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        self.text += " " if tag in {"td", "th", "dt"} else ""
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.blocks:
            self.blocks[self.open[-1]].append((self.tags[-1][1], data))
        else:
            self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def page_of(report: AuditReport) -> Page:
    return Page(render(report))


REPORTS = pytest.mark.parametrize("report", [sound(), broken(), incomplete()], ids=["sound", "broken", "incomplete"])


def test_verdict_comes_first_in_words_and_says_what_was_decided() -> None:
    words = page_of(sound()).words
    assert "Passed at depth headers: 91,991 tensors in 163 shards; payload bytes were not read." in words
    assert words.index("Passed") < words.index("Most important") < words.index("Map of the checkpoint")
    assert "Failed at depth headers: 2 errors and 2 warnings in 91,991 tensors of 163 shards" in page_of(broken()).words
    assert "permission denied" in page_of(incomplete()).words.split("Most important")[0]


def test_sampled_pass_says_how_much_it_saw() -> None:
    report = sound()
    report = report.model_copy(update={
        "run": report.run.model_copy(update={"depth": "sample", "seed": 7}),
        "coverage": report.coverage.model_copy(update={"payload_bytes_read": 2_065_724_518}),
    })  # fmt: skip
    assert (
        "Passed at depth sample: 91,991 tensors in 163 shards; 0.3 % of payload bytes were read."
        in page_of(report).words
    )


@REPORTS
def test_page_loads_nothing(report: AuditReport) -> None:
    page = page_of(report)
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form", "audio", "video", "source"}
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
    (css,) = (body for _, body in page.blocks["style"])
    assert "url(" not in css
    assert "@import" not in css


@REPORTS
def test_no_inline_style_or_handler(report: AuditReport) -> None:
    for _, attributes in page_of(report).tags:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]


@REPORTS
def test_policy_hashes_are_those_of_the_inline_blocks(report: AuditReport) -> None:
    page = page_of(report)
    (policy,) = (a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives["default-src"] == "'none'"
    scripts = [body for attributes, body in page.blocks["script"] if "type" not in attributes]
    for name, blocks in (("style-src", [b for _, b in page.blocks["style"]]), ("script-src", scripts)):
        (block,) = blocks
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert directives[name] == f"'sha256-{digest}'"


@REPORTS
def test_tags_balance_and_ids_are_unique(report: AuditReport) -> None:
    page = page_of(report)
    assert page.unbalanced == []
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for tag, a in page.tags if tag == "a"}
    assert targets <= set(ids)


def test_hostile_text_is_inert_and_its_control_characters_are_seen() -> None:
    source = render(broken())
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]", source)
    page = Page(source)
    assert page.words.count(r"\x1b[31m\u202egnp.exe\u2066\x00\u2028") > 10
    assert "<img src=x onerror=alert(1)>" in page.text
    assert all(tag != "img" for tag, _ in page.tags)
    assert len(page.blocks["script"]) == 2


@REPORTS
def test_every_finding_and_every_affected_pattern_appears(report: AuditReport) -> None:
    source = render(report)
    words = Page(source).text
    for each in report.findings:
        assert f'id="finding-{each.fingerprint[:12]}"' in source
        assert each.message.replace(HOSTILE, "") in words
        for pattern in each.affected:
            assert pattern in words or pattern == HOSTILE


def test_findings_stand_by_severity_with_consequences_beneath_their_cause() -> None:
    page = page_of(broken())
    articles = [attributes for tag, attributes in page.tags if tag == "article"]
    assert [a["class"].split()[1] for a in articles] == ["error"] * 4 + ["warning"] * 2 + ["info"] * 2
    assert [("data-cells" in a) for a in articles] == [True, False, False, True, True, True, True, True]
    assert page.words.index("Errors") < page.words.index("Warnings") < page.words.index("Worth knowing 2 findings")


def test_cells_lead_to_the_finding_that_marks_them() -> None:
    report = broken()
    links = {(a["data-layer"], a["data-module"]): a for tag, a in page_of(report).tags if "data-layer" in a}
    root = next(f for f in report.findings if f.slug == "missing-shard")
    assert links["17", "experts"]["href"] == f"#finding-{root.fingerprint[:12]}"
    assert links["17", "experts"]["title"] == "layer 17, experts: error (1,536 tensors)"
    assert ("16", "experts") not in links


def test_circular_and_dangling_causes_lose_no_finding() -> None:
    circle = [finding("NAM101", "a", "error", f"circle {i}", fingerprint=str(i), caused_by=str(1 - i)) for i in (0, 1)]
    loose = finding("NAM101", "a", "error", "cause elsewhere", caused_by="elsewhere")
    words = page_of(sound().model_copy(update={"findings": (*circle, loose)})).words
    assert all(each in words for each in ("circle 0", "circle 1", "cause elsewhere"))


def test_figures_stand_beside_every_convention() -> None:
    words = page_of(sound()).words
    assert "36.7B with embedding and head 37,552,297,472 +2.322 %" in words
    assert "without the input embedding 36,625,618,432 \N{MINUS SIGN}0.203 %" in words
    assert "contradicted" in words


@REPORTS
def test_embedded_json_is_the_report(report: AuditReport) -> None:
    (body,) = (body for attributes, body in page_of(report).blocks["script"] if attributes.get("id") == "report")
    assert json.loads(body) == json.loads(report.model_dump_json())
    assert AuditReport.model_validate_json(body).model_dump_json() == report.model_dump_json()


def test_fifty_thousand_findings_fit_a_page_whose_json_stays_complete() -> None:
    many = tuple(
        finding("NAM102", "unexpected-tensor", "warning", "stands for nothing", count=1 + i % 7,
                affected=(f"{LAYER}.{i % 62}.odd{i}.weight",), location=Location(tensor=f"{LAYER}.{i % 62}.odd{i}"))
        for i in range(50_000)
    )  # fmt: skip
    report = sound().model_copy(update={"findings": many})
    source = render(report)
    assert len(source) < 5_000_000
    page = Page(source)
    assert "48,000 findings" in page.words
    (attributes, body) = next(b for b in page.blocks["script"] if b[0].get("id") == "report")
    assert attributes["data-encoding"] == "gzip+base64"
    assert gzip.decompress(base64.b64decode(body)).decode() == report.model_dump_json()


def test_a_deviation_that_rounds_to_nothing_has_no_sign() -> None:
    assert [text.percent(d) for d in (0.0, -0.0001, -0.2)] == ["0.000 %", "0.000 %", "\N{MINUS SIGN}0.200 %"]


def test_names_with_markup_read_as_written() -> None:
    report = sound().model_copy(update={"layout": (
        LayoutRow(pattern="a<b>&amp;\"c'", shape=(1,), dtype="F32", count=1, files=()),)})  # fmt: skip
    assert html.unescape("a&lt;b&gt;&amp;amp;&#34;c&#39;") in page_of(report).text
