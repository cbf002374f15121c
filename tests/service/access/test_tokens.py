"""Tokens: their shape, what they hold, and when they end."""

import re
import time

import pytest
from sqlalchemy import select, update

from auditor.service.access.tokens import Tokens, well_formed
from auditor.service.installation import Installation
from auditor.service.store.tables import tokens


@pytest.fixture
def kept(installation: Installation) -> Tokens:
    return Tokens(installation.database)


def rows(installation: Installation) -> list:
    with installation.database.read() as connection:
        return list(connection.execute(select(tokens)))


def test_a_token_has_a_prefix_that_scanners_match_and_a_checksum(kept: Tokens) -> None:
    token = kept.create("one", ["read"]).token
    assert re.fullmatch(r"audtk_[0-9A-Za-z]{49}", token)
    assert well_formed(token)
    other = "0" if token[10] != "0" else "1"
    assert not well_formed(token[:10] + other + token[11:])


def test_a_token_itself_is_never_kept(kept: Tokens, installation: Installation) -> None:
    token = kept.create("one", ["admin"]).token
    assert token not in repr(rows(installation))
    assert token[6:] not in repr(rows(installation))


def test_a_scope_holds_those_before_it(kept: Tokens) -> None:
    assert kept.judge(kept.create("a", ["read"]).token).scopes == {"read"}
    assert kept.judge(kept.create("a", ["submit"]).token).scopes == {"read", "submit"}
    assert kept.judge(kept.create("a", ["read", "admin"]).token).scopes == {"read", "submit", "admin"}


def test_a_revoked_token_is_good_for_nothing(kept: Tokens) -> None:
    issued = kept.create("one", ["read"])
    assert kept.revoke(issued.id)
    assert kept.judge(issued.token) is None
    assert kept.holder(issued.id) is None
    assert not kept.revoke("0" * 26)


def test_a_token_expires_by_the_databases_clock(kept: Tokens, installation: Installation) -> None:
    issued = kept.create("one", ["read"], days=1)
    assert kept.judge(issued.token) is not None
    with installation.database.write() as connection:
        connection.execute(update(tokens).values(expires_at=tokens.c.created_at))
    assert kept.judge(issued.token) is None


def test_the_last_use_is_kept_beside_the_request(kept: Tokens, installation: Installation) -> None:
    issued = kept.create("one", ["read"])
    kept.judge(issued.token)
    until = time.monotonic() + 10
    while rows(installation)[0].last_used_at is None and time.monotonic() < until:
        time.sleep(0.02)
    assert rows(installation)[0].last_used_at >= rows(installation)[0].created_at


def test_the_first_token_is_made_once(kept: Tokens) -> None:
    first = kept.first()
    assert kept.judge(first.token).scopes == {"read", "submit", "admin"}
    kept.revoke(first.id)
    assert kept.first() is None


def test_tokens_are_listed_newest_first_in_pages(kept: Tokens) -> None:
    made = [kept.create(str(n), ["read"]).id for n in range(5)]
    listed = [row.id for row in kept.every(most=3)]
    listed += [row.id for row in kept.every(after=listed[-1])]
    assert sorted(listed) == sorted(made)
    assert listed == sorted(made, reverse=True)
