"""A value is worded alike wherever it is shown: in the terminal, on the page, in messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor import text
from auditor_reports import text as page
from auditor_schemas import wording
from auditor_schemas.wording import share, size


def test_terminal_and_page_have_the_same_words() -> None:
    for name in ("shown", "size", "share", "plural"):
        assert getattr(text, name) is getattr(page, name) is getattr(wording, name)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (1023 * 1024, "1023 KiB"),
        ((1 << 20) - 1, "1 MiB"), (1 << 20, "1 MiB"), ((1 << 30) - 1, "1 GiB"), (688_574_839_360, "641 GiB"),
        (5 << 50, "5120 TiB"),
    ],
)  # fmt: skip
def test_a_size_has_the_unit_that_its_rounded_value_needs(count: int, words: str) -> None:
    assert size(count) == words


@given(st.integers(0, 1 << 60))
def test_no_size_is_1024_of_a_unit_that_has_a_next(count: int) -> None:
    number, unit = size(count).split(" ")
    assert float(number) < 1024 or unit == "TiB"


@given(st.integers(0, 10**9), st.integers(1, 10**9))
def test_a_share_is_all_or_nothing_only_where_it_is(part: int, whole: int) -> None:
    assert (share(part, whole) == "100 %") == (part >= whole)
    assert (share(part, whole) == "0 %") == (part == 0)
