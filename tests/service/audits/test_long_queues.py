"""To ask for an audit takes no longer where thousands wait, as SQLite's steps count."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from auditor.service.audits import lookup
from auditor.service.audits.order import Order
from auditor.service.installation import Installation

ORDER = Order(source="hf://org/model", depth="full")
FEW, MANY = 50, 1000
_EACH = 10


# PostgreSQL has the same indexes, and nothing that counts.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def fill(installation: Installation, first: int, count: int) -> None:
    with installation.database.write() as connection:
        for n in range(first, first + count):
            installation.audits.submit_within(connection, replace(ORDER, source=f"hf://org/{n % 50}", seed=n))


def steps(installation: Installation, act: Callable[[], Any]) -> int:
    """How many steps SQLite takes, in all connections."""
    counted = [0]

    def count() -> int:
        counted[0] += 1
        return 0

    act()  # what is made once is made
    pools = (installation.database.engine, installation.database._reader)
    held = [engine.raw_connection() for engine in pools]
    for each in held:
        each.driver_connection.set_progress_handler(count, _EACH)
        each.close()
    act()
    for engine in pools:
        with engine.connect() as connection:
            connection.connection.driver_connection.set_progress_handler(None, 0)
    return counted[0] * _EACH


def submitting(installation: Installation) -> Callable[[], Any]:
    seeds = iter(range(1_000_000, 2_000_000))
    return lambda: installation.audits.submit(replace(ORDER, seed=next(seeds)))


def repeating(installation: Installation) -> Callable[[], Any]:
    return lambda: installation.audits.submit(replace(ORDER, source="hf://org/1", seed=1))


@pytest.mark.parametrize("what", [submitting, repeating])
def test_it_takes_as_long_where_many_wait(
    installation: Installation, what: Callable[[Installation], Callable[[], Any]]
) -> None:
    fill(installation, 0, FEW)
    before = steps(installation, what(installation))
    fill(installation, FEW, MANY)
    assert steps(installation, what(installation)) < before + 500


def test_places_are_counted_up_to_some_thousand(installation: Installation) -> None:
    fill(installation, 0, lookup.MOST_PLACES + 10)
    with installation.database.read() as connection:
        last = lookup.listed(connection, lookup.Filters(), after=None, most=1)[0]
        shown = lookup.audit(connection, last.id)
        assert shown is not None
        assert lookup.place(connection, shown) == lookup.MOST_PLACES
