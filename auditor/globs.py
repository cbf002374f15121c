"""Globs as policies write them: * ? [seq] as in a shell, dots included, and {a-b} as reports write runs of numbers."""

import re
from collections.abc import Callable, Iterable
from functools import cache

from auditor.errors import UsageError

MOST_NUMBERS = 10_000
_SYMBOL = r"(?P<stars>\*+)|(?P<seq>\[!?\]?[^\]]*\])|\{(?P<first>[0-9]{1,9})-(?P<last>[0-9]{1,9})\}|."


@cache
def matcher(glob: str) -> Callable[[str], object]:
    """A function that says whether a name matches the whole glob.

    {a-b} matches every whole number from a to b: without zeros in front, or with as many digits as a has where a
    begins with a zero, as shards are numbered. Raises UsageError for a run of no number, or of too many.
    """
    import fnmatch  # audits under a policy without globs do without

    pieces = [""]
    for token in re.finditer(_SYMBOL, glob, re.DOTALL):
        if token["stars"]:
            pieces.append("")
        elif token["first"]:
            pieces[-1] += _numbers(token["first"], token["last"])
        elif token["seq"] or token[0] == "?":
            pieces[-1] += fnmatch.translate(token[0]).removeprefix("(?s:").rpartition(")")[0]
        else:
            pieces[-1] += re.escape(token[0])
    first, *others = pieces
    if not others:
        return re.compile(f"{first}\\Z", re.DOTALL).match
    # Each piece has one length at one place, so the first place that fits is as good as any later one: no star
    # ever gives back, and a hostile name costs no more than its length squared.
    middle = "".join(f"(?>.*?{piece})" for piece in others[:-1])
    return re.compile(f"{first}{middle}.*{others[-1]}\\Z", re.DOTALL).match


def literal_start(glob: str) -> str:
    """How every name begins that a glob matches: what stands before its first sign."""
    return re.split(r"[*?\[{]", glob, maxsplit=1)[0]


def matches_any(name: str, globs: Iterable[str]) -> bool:
    """Whether a name matches one of the globs."""
    return any(matcher(glob)(name) for glob in globs)


def _numbers(first: str, last: str) -> str:
    begin, end = int(first), int(last)
    if not begin <= end < begin + MOST_NUMBERS:
        raise UsageError(f"{{{first}-{last}}} needs a first number not after the last, and at most {MOST_NUMBERS:,}")
    width = len(first) if first.startswith("0") and len(first) > 1 else 0
    return rf"(?<![0-9])(?:{'|'.join(f'{number:0{width}d}' for number in range(begin, end + 1))})(?![0-9])"
