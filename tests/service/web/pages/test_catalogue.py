"""The rules as pages."""

from auditor.rules import catalogue
from tests.service.web.pages.conftest import People, words


def test_every_rule_is_listed_and_has_its_page(people: People) -> None:
    client = people.somebody("read")
    listed = client.get("/rules").text
    for each in catalogue():
        assert f'href="/rules/{each.rule.slug}"' in listed
    page = client.get("/rules/mismatched-block-scale")
    assert "An edge block counts as a block" in words(page)
    assert page.text.count("<h1>") == 1
    assert "ceil(rows / r)" in page.text


def test_every_page_of_a_rule_can_be_shown_and_leads_nowhere_that_is_not(people: People) -> None:
    client = people.somebody("read")
    slugs = {each.rule.slug for each in catalogue()}
    for slug in slugs:
        page = client.get(f"/rules/{slug}")
        assert page.status_code == 200
        text = page.text.partition('class="prose"')[2]
        assert text
        for link in text.split('href="')[1:]:
            place = link.partition('"')[0]
            assert place.startswith("/")
            assert place == "/rules" or place.removeprefix("/rules/") in slugs


def test_rules_are_found_by_words_and_by_id(people: People) -> None:
    client = people.somebody("read")
    found = client.get("/rules", params={"text": "block SCALE"})
    assert "QNT102" in found.text
    assert "CFG101" not in found.text
    assert "No rule matches" in client.get("/rules", params={"text": "<script>"}).text
    assert client.get("/rules/qnt102").headers["location"] == "/rules/mismatched-block-scale"
    assert client.get("/rules/none-such").status_code == 404
