"""The published site: incremental, idempotent, whole at every moment, and without what is not for everybody."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import made_reports as made
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor import cli
from auditor.errors import SourceError, UsageError
from auditor.reporting.publish import LOCK, PARTIAL, publish
from auditor_reports import redact
from auditor_reports.site import Record, folder, index_page
from auditor_schemas.report import AuditReport

ROOT = Path(__file__).parents[2]


class _Links(HTMLParser):
    """Where a page leads, and what could act in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.styled: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src") and value]
        self.styled += [name for name, _ in attrs if name == "style" or name.startswith("on")]


def report(uri: str = "hf://acme/DeepSeek-V3", day: int = 1, base: AuditReport | None = None, **more) -> AuditReport:
    base = base or made.sound()
    return base.model_copy(
        update={
            "source": base.source.model_copy(update={"uri": uri, "revision": f"{day:040x}"}),
            "run": base.run.model_copy(update={"started_at": datetime(2026, 1, day, 12, tzinfo=UTC)}),
            **more,
        }
    )


def saved(tmp_path: Path, *reports: AuditReport) -> list[str]:
    paths = []
    for each in reports:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        path.write_text(each.model_dump_json())
        paths.append(str(path))
    return paths


def tree(site: Path) -> dict[str, bytes]:
    return {str(path.relative_to(site)): path.read_bytes() for path in sorted(site.rglob("*")) if path.is_file()}


def broken_links(site: Path) -> list[str]:
    """Links of the site's own pages that lead nowhere, or out of it."""
    wrong = []
    for page in [site / "index.html", *site.glob("checkpoints/*/index.html")]:
        if not page.exists():
            continue
        for link in _Links(page.read_text()).links:
            if link.startswith("#"):
                continue
            target = (page.parent / unquote(link)).resolve()
            if not target.is_file() or not target.is_relative_to(site.resolve()):
                wrong.append(f"{page}: {link}")
    return wrong


@pytest.fixture
def inbox(tmp_path):
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


def test_site_has_an_index_a_page_for_each_checkpoint_and_each_report_with_its_json(tmp_path, inbox):
    paths = saved(inbox, report(day=1), report(day=2, base=made.broken()), report("s3://bucket/V3.1", day=3))
    done = publish(paths, str(tmp_path / "site"))
    assert (done.reports, done.checkpoints, done.added) == (3, 2, 3)
    site = tmp_path / "site"
    assert broken_links(site) == []
    index = (site / "index.html").read_text()
    assert index.count('<tr role="row" data-verdict=') == 2
    one = site / "checkpoints" / folder("hf://acme/DeepSeek-V3")
    history = (one / "index.html").read_text()
    assert history.index("2026-01-02") < history.index("2026-01-01")
    assert "was passed" in history
    assert len(list(one.glob("*.html"))) == 3
    for document in one.glob("*.json"):
        assert AuditReport.model_validate_json(document.read_bytes()).source.uri == "hf://acme/DeepSeek-V3"


def test_record_leads_programs_to_every_report(tmp_path, inbox):
    publish(saved(inbox, report(day=1), report(day=2)), str(tmp_path / "site"))
    record = json.loads((tmp_path / "site" / "site.json").read_text())
    assert [each["verdict"] for each in record["entries"]] == ["passed", "passed"]
    assert all((tmp_path / "site" / each["page"]).is_file() for each in record["entries"])


def test_same_reports_again_write_nothing_and_leave_the_same_bytes(tmp_path, inbox):
    paths = saved(inbox, report(day=1), report("other", day=2))
    publish(paths, str(tmp_path / "site"))
    before = tree(tmp_path / "site")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "site").rglob("*.html")}
    done = publish([*paths, *paths], str(tmp_path / "site"))
    assert (done.added, done.written) == (0, 0)
    assert tree(tmp_path / "site") == before
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "site").rglob("*.html")} == stamps


def test_order_and_number_of_publications_do_not_matter(tmp_path, inbox):
    paths = saved(inbox, *(report(f"checkpoint {day % 2}", day=day) for day in range(1, 6)))
    publish(paths, str(tmp_path / "at-once"))
    for path in reversed(paths):
        publish([path], str(tmp_path / "one-by-one"))
    assert tree(tmp_path / "at-once") == tree(tmp_path / "one-by-one")


def test_adding_one_report_rewrites_its_checkpoint_the_record_and_the_index_alone(tmp_path, inbox):
    publish(saved(inbox, report("a", day=1), report("b", day=2)), str(tmp_path / "site"))
    before = tree(tmp_path / "site")
    publish(saved(inbox, report("a", day=3)), str(tmp_path / "site"))
    after = tree(tmp_path / "site")
    changed = {name for name in after if before.get(name) != after[name]}
    page = f"checkpoints/{folder('a')}"
    assert changed - {name for name in changed if name.startswith(f"{page}/2026")} == {
        f"{page}/index.html", "site.json", "index.html",
    }  # fmt: skip
    assert len(changed) == 5


@pytest.mark.parametrize("first", [True, False], ids=["new site", "older site"])
def test_publisher_that_is_killed_before_any_rename_leaves_a_whole_site_and_is_made_good_by_the_next(
    tmp_path, inbox, first
):
    """The process ends, as by SIGKILL, at every single rename in turn."""
    old = saved(inbox, report("a", day=1), report("b", day=2))
    new = saved(inbox, report("a", day=3, base=made.broken()), report("c", day=4))
    complete = tmp_path / "complete"
    if not first:
        publish(old, str(complete))
    olds = {None, index_page(Record()).encode()} if first else {(complete / "index.html").read_bytes()}
    publish(new, str(complete))
    wanted = tree(complete)
    script = (
        "import os, sys\n"
        "left = int(sys.argv[1])\n"
        "replace = os.replace\n"
        "def dying(*names):\n"
        "    global left\n"
        "    if left == 0:\n        os._exit(9)\n"
        "    left -= 1\n"
        "    replace(*names)\n"
        "os.replace = dying\n"
        "from auditor.reporting.publish import publish\n"
        "publish(sys.argv[3:], sys.argv[2])\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for renames in range(11):
        site = tmp_path / f"site-{renames}"
        if not first:
            publish(old, str(site))
        code = subprocess.run(
            [sys.executable, "-c", script, str(renames), str(site), *new], env=environment, check=False
        ).returncode
        assert code in (0, 9)
        assert broken_links(site) == []
        index = (site / "index.html").read_bytes() if (site / "index.html").exists() else None
        assert index in {*olds, wanted["index.html"]}
        for name, content in tree(site).items():
            if name.endswith(".json"):
                json.loads(content)
            if name.endswith(".html"):
                assert content.rstrip().endswith(b"</html>")
        publish(new, str(site))
        assert tree(site) == wanted


def test_two_publishers_at_once_lose_no_report(tmp_path, inbox):
    paths = saved(inbox, *(report(f"checkpoint {day % 3}", day=day) for day in range(1, 13)))
    command = [sys.executable, "-m", "auditor", "publish", "--site", str(tmp_path / "site")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen([*command, *paths[start::4]], env=environment, stdout=subprocess.DEVNULL) for start in range(4)
    ]
    assert [each.wait(timeout=120) for each in running] == [0, 0, 0, 0]
    publish(paths, str(tmp_path / "alone"))
    assert tree(tmp_path / "site") == tree(tmp_path / "alone")


def test_publisher_that_waits_too_long_says_so(tmp_path, inbox):
    import fcntl

    site = tmp_path / "site"
    site.mkdir()
    with open(site / LOCK, "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SourceError, match="another publisher is at work"):
            publish(saved(inbox, report()), str(site), wait=0.2)
    assert list(tree(site)) == [LOCK]


# --- refusals ---


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "invalid json"),
        (b"{", "invalid json"),
        (b"\xff\xfe", "invalid json"),
        (b'{"version": "2.1.0", "runs": []}', "field required"),
        (b"[" * 100_000, "invalid json"),
    ],
)
def test_what_is_no_report_is_refused_in_one_line_that_names_it_and_nothing_is_written(
    content, why, tmp_path, inbox, capsys
):
    good = saved(inbox, report())
    bad = inbox / "b\x1b[31mad.json"
    bad.write_bytes(content)
    code = cli.main(["publish", *good, str(bad), "--site", str(tmp_path / "site")])
    err = capsys.readouterr().err
    assert code == 3
    assert err.count("\n") == 1
    assert "b\\x1b[31mad.json: not an audit report" in err
    assert why in err
    assert not (tmp_path / "site").exists()


def test_report_of_another_tool_is_refused(tmp_path, inbox):
    other = report().model_copy(update={"tool": report().tool.model_copy(update={"name": "other\x1b"})})
    with pytest.raises(SourceError, match=r"not a report of auditor: tool.name is other\\x1b"):
        publish(saved(inbox, other), str(tmp_path / "site"))
    assert not (tmp_path / "site").exists()


def test_missing_report_is_one_line(tmp_path, capsys):
    assert cli.main(["publish", str(tmp_path / "none.json"), "--site", str(tmp_path / "site")]) == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_index_that_is_somebody_else_s_is_never_overwritten(tmp_path, inbox):
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("mine")
    with pytest.raises(UsageError, match="name an empty folder"):
        publish(saved(inbox, report()), str(site))
    assert (site / "index.html").read_text() == "mine"


def test_record_that_is_damaged_is_refused_and_left(tmp_path, inbox):
    site = tmp_path / "site"
    publish(saved(inbox, report()), str(site))
    (site / "site.json").write_text("{")
    with pytest.raises(UsageError, match=r"site\.json: not the record of a site"):
        publish(saved(inbox, report(day=2)), str(site))
    assert (site / "site.json").read_text() == "{"


def test_leftovers_of_a_publisher_that_was_killed_go(tmp_path, inbox):
    site = tmp_path / "site"
    publish(saved(inbox, report()), str(site))
    (site / f"index.html{PARTIAL}").write_text("half")
    (site / "checkpoints" / folder("hf://acme/DeepSeek-V3") / f"x.html{PARTIAL}").write_text("half")
    publish(saved(inbox, report()), str(site))
    assert not [name for name in tree(site) if name.endswith(PARTIAL)]


# --- what is not for everybody, and what is not to be trusted ---


@pytest.mark.parametrize(
    "uri",
    ["../../escape", "/", "..", ".", "", "a/../../b", "C:\\windows\\x", "con", "x" * 5000, "\u202e\x00", "hf://../../x",
     "https://host/%2e%2e/%2e%2e/x", "index.html", "checkpoints"],
)  # fmt: skip
def test_hostile_address_stays_within_the_site(uri, tmp_path, inbox):
    publish(saved(inbox, report(uri)), str(tmp_path / "out" / "site"))
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and "inbox" not in path.parts]
    assert all(path.is_relative_to(tmp_path / "out" / "site") for path in outside)
    assert broken_links(tmp_path / "out" / "site") == []


@given(st.text(max_size=80))
def test_folder_of_any_address_is_one_plain_component(uri):
    name = folder(uri)
    assert name.isascii()
    assert len(name) < 80
    assert all(char.isalnum() or char == "-" for char in name)
    assert name[0] != "-"


def test_addresses_that_read_alike_have_folders_of_their_own():
    assert len({folder(each) for each in ("a/b", "a-b", "A-B", "a b", "a//b")}) == 5


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("/mnt/secret/DeepSeek-V3", "DeepSeek-V3"),
        ("/mnt/secret/DeepSeek-V3/", "DeepSeek-V3"),
        ("~/models/V3", "V3"),
        ("C:\\Users\\jane\\V3", "V3"),
        ("file:///home/jane/V3", "V3"),
        ("https://jane:pw@host.example/V3?X-Amz-Signature=abc#f", "https://host.example/V3"),
        ("s3://key:secret@bucket/V3?sig=1", "s3://bucket/V3"),
        ("hf://user:token@org/name", "hf://org/name"),
        ("hf://org/name", "hf://org/name"),
        ("checkpoints/V3", "checkpoints/V3"),
        ("https://[broken/V3?sig=1", "https://…"),
    ],
)
def test_address_is_published_without_path_user_and_query(uri, shown):
    assert redact.uri(uri) == shown


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("cannot open '/home/jane doe/V3/a.json': denied", "cannot open '…/a.json': denied"),
        ("/mnt/a/b.safetensors: input/output error", "…/b.safetensors: input/output error"),
        ("GET https://u:p@host/a/b?X-Amz-Signature=1&x=2 failed", "GET https://host/a/b failed"),
        ("leads to ../../../srv/x", "leads to ../../../srv/x"),
        ("read 3/4 of a and/or b", "read 3/4 of a and/or b"),
        ("at D:\\models\\x.bin", "at …/x.bin"),
    ],
)  # fmt: skip
def test_sentence_keeps_what_happened_and_loses_where_it_lies(said, shown):
    assert redact.text(said) == shown


@given(st.text(alphabet="/\\:?@'ab. ~-", max_size=40))
def test_what_is_redacted_once_stays_as_it_is(said):
    assert redact.text(redact.text(said)) == redact.text(said)


def test_nothing_private_is_in_any_file_of_the_site(tmp_path, inbox):
    secret = "https://jane:hunter2@host.example/m/V3?X-Amz-Signature=deadbeef"
    leaky = report(
        secret,
        verdict="incomplete",
        incomplete=("/srv/private/models/V3/model.safetensors: permission denied", f"{secret}: timed out"),
        coverage=made.sound().coverage.model_copy(update={"unread": ("/srv/private/models/V3/model.safetensors",)}),
        findings=(made.finding("HDR112", "outside-symlink", "info", "to /srv/private/x", actual="/srv/private/y"),),
        outcomes=(made.outcome("SHP101", "wrong-shape", "errored", reason="OSError: '/srv/private/x'"),),
    )  # fmt: skip
    publish(saved(inbox, made.agreeing(leaky)), str(tmp_path / "site"))
    for name, content in tree(tmp_path / "site").items():
        for private in (b"/srv/private", b"hunter2", b"deadbeef", b"jane"):
            assert private not in content, name
    (entry,) = Record.model_validate_json((tmp_path / "site" / "site.json").read_bytes()).entries
    assert entry.uri == "https://host.example/m/V3"


def test_report_without_anything_private_is_published_as_it_is(tmp_path, inbox):
    original = report(base=made.broken())
    assert redact.redact(original) is original


@pytest.mark.parametrize("text", made.HOSTILE.values(), ids=made.HOSTILE)
def test_hostile_address_and_finding_are_text_on_the_site_s_pages(text, tmp_path, inbox):
    hostile = made.agreeing(made.hostile(text))
    publish(saved(inbox, hostile), str(tmp_path / "site"))
    assert broken_links(tmp_path / "site") == []
    for page in [tmp_path / "site" / "index.html", *(tmp_path / "site").glob("checkpoints/*/index.html")]:
        content = page.read_text()
        seen = _Links(content)
        assert seen.styled == []
        assert not {"img", "b", "i", "iframe"} & set(seen.tags)
        assert seen.tags.count("script") == (1 if page.parent == tmp_path / "site" else 0)
        assert not any(char in content for char in "\x00\x07\x1b\u202e\u2066\u2028\u0085")
