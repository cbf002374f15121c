"""The HTML page: complete, offline, escaped, under a policy its own blocks satisfy, and readable by machines."""

import base64
import gzip
import hashlib
import html
import json
import re
from html.parser import HTMLParser

import pytest

from auditor_reports import text
from auditor_reports.html import render
from auditor_schemas.content import Texture
from auditor_schemas.inventory import LayoutRow
from auditor_schemas.report import AuditReport, RunNode
from tests.report_examples import broken, complete, finding, incomplete, many, sampled, sound

VOID = {"meta", "input", "img", "br", "hr", "link"}


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


REPORTS = pytest.mark.parametrize(
    "report", [sound(), broken(), incomplete(), sampled(), complete()], ids=lambda report: report.run.depth
)


def carried(page: Page, name: str) -> str:
    """What the page carries, unpacked."""
    attributes, body = next(b for b in page.blocks["script"] if b[0].get("id") == name)
    if "data-encoding" not in attributes:
        return body
    rest, digests = (base64.b64decode(part) for part in body.split("."))
    parts = gzip.decompress(rest).decode().split("\x01")
    held = [digests[i : i + 32].hex() for i in range(0, len(digests), 32)]
    return "".join(part + digest for part, digest in zip(parts, [*held, ""], strict=True))


def test_verdict_comes_first_in_words_and_says_what_was_decided() -> None:
    words = page_of(sound()).words
    assert "Passed. May be shipped, as far as was looked." in words
    assert "At depth headers: 91,991 tensors in 163 shards; tensor data was not read." in words
    assert words.index("Passed") < words.index("Worth knowing") < words.index("Map of the checkpoint")
    words = page_of(broken()).words
    assert "Failed. Do not ship this checkpoint." in words
    assert "At depth headers: 3 errors and 12 warnings in 91,991 tensors of 163 shards" in words
    words = page_of(incomplete()).words
    assert "Incomplete. Undecided: not everything could be read." in words
    assert "permission denied" in words.split("What was covered")[0]


def test_a_pass_says_what_it_let_through() -> None:
    report = broken().model_copy(update={"verdict": "passed", "fail_on": "never"})
    assert "Let through in spite of 3 errors and 12 warnings: this gate never fails." in page_of(report).words
    warned = sound().model_copy(update={"findings": (finding("HDR110", "a", "warning", "no format"),)})
    assert "May be shipped; 1 warning did not stop it." in page_of(warned).words


def test_why_it_failed_names_what_fails_it_and_nothing_that_is_only_worth_knowing() -> None:
    error = finding("NAM101", "a", "error", "is missing")
    infos = tuple(finding("IDX111", f"{n}", "info", f"worth knowing {n}") for n in range(3))
    failed = broken().model_copy(update={"findings": (error, *infos)})
    why = page_of(failed).words.partition("What was covered")[0].partition("Why")[2]
    assert "is missing" in why
    assert "worth knowing" not in why
    short = failed.model_copy(update={"findings": infos, "unmet": ("the audit is of depth headers",)})
    words = page_of(short).words.partition("What was covered")[0]
    assert "Why" not in words
    assert "worth knowing 2" in words.partition("Worth knowing")[2]


def test_sampled_audit_says_how_much_it_saw() -> None:
    words = page_of(sampled()).words
    assert "At depth sample: 1 error in 91,991 tensors of 163 shards; 0.3 % of tensor data was read." in words
    assert "1.92 GiB of 641 GiB of tensor data (0.3 %)" in words
    assert "not covered: 639 GiB of tensor data not read" in words
    assert "not covered: what no shape shows, such as the order inside a concatenated projection" in words


@REPORTS
def test_page_loads_nothing(report: AuditReport) -> None:
    page = page_of(report)
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "audio", "video", "source"}
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
    targets = {a["href"][1:] for tag, a in page.tags if tag == "a" and "href" in a}
    assert targets <= set(ids)


def test_hostile_text_is_inert_and_its_control_characters_are_seen() -> None:
    source = render(broken())
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]", source)
    page = Page(source)
    assert page.words.count(r"\x1b[31m\u202egnp.exe\u2066\x00\u2028") > 10
    assert "<img src=x onerror=alert(1)>" in page.text
    assert all(tag != "img" for tag, _ in page.tags)
    assert len(page.blocks["script"]) == 3


@REPORTS
def test_every_finding_and_every_affected_pattern_appears(report: AuditReport) -> None:
    source = render(report)
    words = Page(source).text
    for each in report.findings:
        assert f'id="finding-{each.fingerprint[:12]}"' in source
        assert text.shown(each.message) in words
        for pattern in each.affected:
            assert text.shown(pattern) in words


def test_findings_stand_by_severity_with_consequences_beneath_their_cause() -> None:
    page = page_of(broken())
    articles = [a["class"].split()[1] for tag, a in page.tags if tag == "article" and "id" in a]
    assert articles == ["error", "info", "info", "error", "error", *["warning"] * 12, "info", "info"]
    assert page.words.index("Errors") < page.words.index("Warnings") < page.words.index("Worth knowing 2 findings")


def test_cells_lead_to_the_finding_that_marks_them() -> None:
    report, links, place = broken(), {}, {}
    for tag, attributes in page_of(report).tags:
        if tag == "td" and "data-layer" in attributes:
            place = attributes
        elif tag == "a" and place:
            links[place["data-layer"], place["data-module"]] = (attributes["href"], place["title"])
            place = {}
    root = next(f for f in report.findings if f.slug == "missing-shard")
    href, title = links["17", "experts"]
    assert href == f"#finding-{root.fingerprint[:12]}"
    assert title == "layer 17, routed experts: error (1,536 expected, 256 error)"
    assert ("16", "experts") not in links


def test_circular_and_dangling_causes_lose_no_finding() -> None:
    circle = [finding("NAM101", "a", "error", f"circle {i}", fingerprint=str(i), caused_by=str(1 - i)) for i in (0, 1)]
    hanging = finding("NAM101", "a", "error", "hangs off the circle", caused_by="0")
    loose = finding("NAM101", "a", "error", "cause elsewhere", caused_by="elsewhere")
    words = page_of(sound().model_copy(update={"findings": (*circle, hanging, loose)})).words
    assert all(each in words for each in ("circle 0", "circle 1", "hangs off the circle", "cause elsewhere"))


def test_a_long_chain_of_causes_is_one_fold_and_takes_no_time() -> None:
    chain = tuple(
        finding("NAM101", "a", "error", f"link {i}", fingerprint=f"{i:064}", caused_by=f"{i - 1:064}" if i else None)
        for i in range(20_000)
    )
    words = page_of(sound().model_copy(update={"findings": chain})).words
    assert "What this explains, 19,999 findings" in words


def test_findings_whose_fingerprints_begin_alike_have_links_of_their_own() -> None:
    alike = tuple(finding("NAM101", "a", "error", f"message {i}", fingerprint="ab" * 32) for i in range(3))
    page = page_of(sound().model_copy(update={"findings": alike}))
    anchors = [a["id"] for tag, a in page.tags if tag == "article" and "id" in a]
    assert anchors == ["finding-abababababab", "finding-abababababab-2", "finding-abababababab-3"]


def test_figures_stand_beside_every_convention_with_the_contradiction_explained() -> None:
    words = page_of(sound()).words
    assert "with embedding and head 37,552,297,472 +2.322 %" in words
    assert "without the input embedding 36,625,618,432 \N{MINUS SIGN}0.203 %" in words
    assert "contradicted" in words
    assert "no convention gives 36.7B" in words


def test_storage_says_where_the_bytes_are_and_what_lies_apart() -> None:
    words = page_of(sound()).words
    assert "routed experts 44,644 609 GiB" in words
    assert "1 FP8 weight lies in another shard than its scale" in words
    assert "largest shard 6.35 GiB, model-00163-of-000163.safetensors" in words


def test_parallelism_has_a_mark_and_a_partition_for_each_kind_and_size() -> None:
    words = page_of(sound()).words
    assert (
        "Tensor parallel sizes 1, 2, 4, 8 and 16 split every quantised weight on a block boundary; 32 does not."
        in words
    )
    assert "mlp.gate_proj.weight 18,432 along axis 0 18,432 ✓" in words
    assert "576 ✘" in words
    assert "8 32 experts" in words


def test_an_old_report_without_storage_and_parallelism_still_renders() -> None:
    document = json.loads(sound().model_dump_json())
    for field in ("storage", "expert_parallelism", "pipeline_parallelism", "probes", "content_digest"):
        del document[field]
    for table in document["parallelism"]:
        del table["even"], table["bytes_per_rank"]
    for each in document["findings"]:
        del each["cells"]
    words = page_of(AuditReport.model_validate(document)).words
    assert "18,432 along axis 0" in words
    assert "By shard" not in words


def test_content_lists_the_worst_spot_checks_first_with_their_functional_error() -> None:
    words = page_of(sampled()).words
    spots = words[words.index("Spot-checked tensors") :]
    assert (
        spots.index("? undefined") < spots.index("✘ changed") < spots.index("≈ equal values") < spots.index("✓ exact")
    )
    assert "within 5 %, 64 tokens on NVIDIA H100 80GB HBM3" in spots
    assert "4 NaN" in words


def test_content_says_of_each_kind_what_its_bytes_look_like() -> None:
    looks = Texture(small_codes=0.125, zero_run=640, sign_run=0, doubled_pages=3, zero_rows=0.25, doubled_rows=None)
    others = Texture(small_codes=0.01, zero_run=64, sign_run=128, median_exponents=(-9, -7), far_values=0.5)
    report = sampled()
    assert report.probes is not None
    group = report.probes.groups[0]
    groups = tuple(group.model_copy(update={"layer": n, "texture": each}) for n, each in enumerate((looks, others)))
    probes = report.probes.model_copy(update={"groups": groups})
    shown = Page(render(report.model_copy(update={"probes": probes}))).text.partition("What the bytes of each kind")[2]
    row = " ".join(shown.partition("values far from it")[2].split())
    wanted = "12.5 % 640 zeros, 128 of one sign 3 25 % — 2⁻⁹ to 2⁻⁷ 50 %"
    assert wanted in row


def test_rules_that_could_not_look_stand_first_with_their_reason() -> None:
    words = page_of(sound()).words
    rules = words[words.index("What became of every rule") :]
    assert rules.index("reads payload, and the depth is headers") < rules.index("The 4 that passed")


@REPORTS
def test_embedded_json_is_the_report(report: AuditReport) -> None:
    body = carried(page_of(report), "report")
    assert json.loads(body) == json.loads(report.model_dump_json())
    assert AuditReport.model_validate_json(body).model_dump_json() == report.model_dump_json()


@pytest.mark.parametrize("random_names", [False, True])
def test_fifty_thousand_findings_fit_a_page_that_holds_them_all(random_names: bool) -> None:
    report = many(random_names=random_names)
    source = render(report)
    assert len(source.encode()) < 5_000_000
    page = Page(source)
    assert "49,900 findings more" in page.words
    assert carried(page, "report") == report.model_dump_json()
    rows = json.loads(carried(page, "findings-data"))["rows"]
    positions, follows = [], 0
    for row in rows:
        positions.append(follows + row[0])
        follows = positions[-1] + 1
    assert sorted(positions) == list(range(50_000))


def test_a_deviation_that_rounds_to_nothing_has_no_sign() -> None:
    assert [text.percent(d) for d in (0.0, -0.0001, -0.2)] == ["0.000 %", "0.000 %", "\N{MINUS SIGN}0.200 %"]


def test_names_with_markup_read_as_written() -> None:
    report = sound().model_copy(update={"layout": (
        LayoutRow(pattern="a<b>&amp;\"c'", shape=(1,), dtype="F32", count=1, files=()),)})  # fmt: skip
    assert html.unescape("a&lt;b&gt;&amp;amp;&#34;c&#39;") in page_of(report).text


def test_page_says_which_nodes_read_what_and_with_what() -> None:
    nodes = (RunNode(node="10.0.0.1", device="NVIDIA <H100>", units=3, bytes=3 << 30),
             RunNode(node="10.0.0.2", device="cpu", units=1, bytes=1 << 20))  # fmt: skip
    report = sound()
    page = Page(render(report.model_copy(update={"run": report.run.model_copy(update={"nodes": nodes})})))
    assert "10.0.0.1 (NVIDIA <H100>): 3 GiB in 3 units; 10.0.0.2 (cpu): 1 MiB in 1 unit" in page.text
