"""Which sources may be audited, and how each is written."""

from pathlib import Path

import pytest

from auditor.errors import UsageError
from auditor.service.access.sources import judge
from auditor.service.settings.tables import Sources

ALLOWED = Sources(hosts=("models.example", "10.0.0.1"), organisations=("org",), buckets=("s3://bucket",))


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        ("hf://org/name", "hf://org/name"),
        ("HF://org/name/", "hf://org/name"),
        ("hf:org/name", "hf://org/name"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket", "s3://bucket"),
        ("https://MODELS.example:443/a/b/", "https://models.example/a/b"),
        ("https://models.example:8443/", "https://models.example:8443"),
        ("https://models.example./a%20b", "https://models.example/a%20b"),
    ],
)
def test_a_source_is_written_in_one_way(named: str, kept: str) -> None:
    assert judge(named, None, ALLOWED).source == kept


def test_a_revision_is_one_however_it_is_given() -> None:
    assert judge("hf://org/name@v1", None, ALLOWED) == ("hf://org/name", "v1")
    assert judge("hf://org/name", "v1", ALLOWED) == ("hf://org/name", "v1")
    assert judge("hf://org/name@v1", "v1", ALLOWED) == ("hf://org/name", "v1")


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("hf://other/name", "organisations"),
        ("hf://name", "organisation"),
        ("hf://user:secret@org/name", "credentials"),
        ("hf://org/../name", "repository"),
        ("hf://org/name/more", "repository"),
        ("s3://elsewhere/a", "buckets"),
        ("gs://bucket/a", "buckets"),
        ("s3://key:secret@bucket/a", "credentials"),
        ("s3://bucket/../a", "plain path"),
        ("https://evil.example/a", "hosts"),
        ("https://models.example@evil.example/a", "credentials"),
        ("https://user:secret@models.example/a", "credentials"),
        ("https://models.example/a?token=secret", "query"),
        ("https://models.example/a#b", "fragment"),
        ("hf://org/name@main?token=secret", "query"),
        ("s3://bucket?sig=secret", "query"),
        ("https://models.example/a/../b", "plain"),
        ("https://models.example/a/%2e%2e/b", "plain"),
        ("https://models.example/a//b", "plain"),
        ("https://models.example/a\\b", "plain"),
        ("https://models.example:99999/a", "URL"),
        ("https://[::1/a", "URL"),
        ("https://10.0.0.1/a", "private address"),
        ("http://169.254.169.254/latest", "hosts"),
        ("file:///etc/passwd", "none of the sources"),
        ("file:/etc/passwd", "none of the sources"),
        ("ftp://models.example/a", "none of the sources"),
        ("hf://org/na\nme", "do not show"),
        ("hf://org/na\u202eme", "do not show"),
        (" hf://org/name", "spaces"),
        ("", "do not show"),
        ("hf://org/" + "a" * 3000, "longer"),
        ("relative/path", "whole path"),
        ("/etc", "none of the folders"),
    ],
)
def test_what_is_not_allowed_is_refused_by_a_rule_that_is_named(source: str, rule: str) -> None:
    with pytest.raises(UsageError, match=rule) as refused:
        judge(source, None, ALLOWED)
    assert "secret" not in str(refused.value)


def test_only_a_hub_repository_has_a_revision(tmp_path: Path) -> None:
    for source in ("s3://bucket/a", "https://models.example/a", str(tmp_path)):
        with pytest.raises(UsageError, match="revision"):
            judge(source, "main", ALLOWED)


def test_a_folder_is_judged_by_where_its_links_lead(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "model").mkdir(parents=True)
    outside.mkdir()
    (root / "link").symlink_to(outside)
    (tmp_path / "way").symlink_to(root)
    allowed = Sources(roots=(tmp_path / "way",))
    assert judge(f"{root}/model/", None, allowed).source == f"{root}/model"
    assert judge(f"{tmp_path}/way/model", None, allowed).source == f"{tmp_path}/way/model"
    assert judge(str(root), None, allowed).source == str(root)
    for path in (f"{root}/link", f"{root}/model/../../outside", str(outside), f"{root}2"):
        with pytest.raises(UsageError):
            judge(path, None, allowed)


def test_nothing_is_allowed_that_the_settings_do_not_name() -> None:
    for source in ("s3://bucket/a", "/", "/tmp", "https://models.example/a"):
        with pytest.raises(UsageError):
            judge(source, None, Sources())
    assert judge("hf://any/name", None, Sources()).source == "hf://any/name"
