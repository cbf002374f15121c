"""What took long to make is made once, and what is kept stays within its bound."""

from auditor.service.web.shelf import Shelf


def test_what_is_kept_is_not_made_again_and_the_least_used_goes_first() -> None:
    shelf, made = Shelf(10), []

    def take(key: str, size: int = 4) -> bytes:
        def make() -> bytes:
            made.append(key)
            return key.encode() * size

        return shelf.take(key, make)

    assert take("a") == take("a") == b"aaaa"
    take("b")
    take("a")
    take("c")  # for which b has to go
    assert take("a") == b"aaaa"
    assert made == ["a", "b", "c"]
    assert shelf.bytes == 8
    take("b")
    assert made[-1] == "b"


def test_what_is_larger_than_the_bound_is_given_and_not_kept() -> None:
    shelf = Shelf(10)
    assert shelf.take("a", lambda: b"x" * 11) == b"x" * 11
    assert shelf.bytes == 0


def test_what_cannot_be_made_is_not_kept() -> None:
    shelf = Shelf(10)

    def fail() -> bytes:
        raise OSError

    for _ in range(2):
        try:
            shelf.take("a", fail)
        except OSError:
            continue
        raise AssertionError
    assert shelf.take("a", lambda: b"x") == b"x"
