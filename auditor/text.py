"""Untrusted text made safe to show: escapes for control and bidirectional characters, short quotes, paths."""

from collections.abc import Iterable

# What a page says as well has its words where pages have theirs.
from auditor_schemas.wording import ACTING
from auditor_schemas.wording import plural as plural
from auditor_schemas.wording import share as share
from auditor_schemas.wording import shown as shown
from auditor_schemas.wording import size as size

QUOTE_BYTES = 32
_NAME_CHARACTERS = 128  # names of releases have up to 70, files with a folder before them somewhat more
# Why a message says nothing of what a file holds.
UNSHOWN = "what it holds is not shown, it is reached by a link that leaves the checkpoint"


def named(name: str) -> str:
    """The name of a tensor or of a file, escaped, whole up to a length beyond any in use."""
    cut = name[:_NAME_CHARACTERS]
    return f"'{shown(cut)}'" + ("…" if len(name) > len(cut) else "")


def shown_json(document: str) -> str:
    """A JSON text in which no character acts on a terminal: equal when read, with these characters as its escapes."""
    if document.isascii() and "\x7f" not in document:
        return document
    import re
    import unicodedata

    def escaped(found: "re.Match[str]") -> str:
        if unicodedata.category(found[0]) not in ACTING:
            return found[0]
        units = found[0].encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[each : each + 2].hex()}" for each in range(0, len(units), 2))

    return re.sub("[\x7f-\U0010ffff]", escaped, document)


def quoted(value: object) -> str:
    """A value from a file, at most 32 bytes of it, escaped, fit for one line of a message."""
    if isinstance(value, bytes):
        cut = value[:QUOTE_BYTES]
        body = "".join(chr(b) if 0x20 <= b < 0x7F and b != 0x5C else f"\\x{b:02x}" for b in cut)
        return f"'{body}'" + ("…" if len(value) > QUOTE_BYTES else "")
    if isinstance(value, str):
        cut_text = shown(value[:QUOTE_BYTES])
        return f"'{cut_text}'" + ("…" if len(value) > QUOTE_BYTES else "")
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, list | tuple):
        # Of an array in an array no more is shown: together they may be as long as the file.
        inner = ", ".join("[…]" if v and isinstance(v, list | tuple) else quoted(v) for v in value[:4])
        return f"[{inner}{', …' if len(value) > 4 else ''}]"
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    return str(value)[:QUOTE_BYTES]


def duration(seconds: float) -> str:
    """'8 s', '3 min 20 s', '1 h 05 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def listed(items: Iterable[object], *, most: int = 3) -> str:
    """'a, b, c and 4 more'."""
    every = [str(i) for i in items]
    if len(every) <= most:
        return ", ".join(every)
    return f"{', '.join(every[:most])} and {len(every) - most:,} more"


def is_relative(path: str) -> bool:
    """Whether a POSIX path stays within its folder by its spelling alone, and shows as it is."""
    if not path or len(path) > 4096 or path.startswith("/") or "\\" in path or not path.isprintable():
        return False
    return all(part not in ("", ".", "..") for part in path.split("/"))


def plain_path(path: str) -> str | None:
    """The plain path that one with '.', backslashes or a slash too many means; None where there is none."""
    path = path.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    plain = "/".join(parts)
    return plain if not path.startswith("/") and is_relative(plain) else None


def nearest(wanted: str, known: Iterable[str]) -> str:
    """'; did you mean A or B?' for the known words closest to one that is not, or nothing."""
    from difflib import get_close_matches

    # Of words as close the first are those with most letters in their places, as ids are mistyped.
    close = get_close_matches(wanted, list(known), n=9, cutoff=0.75)
    close.sort(key=lambda word: -sum(one == other for one, other in zip(wanted, word, strict=False)))
    del close[2:]
    return f"; did you mean {' or '.join(map(shown, close))}?" if close else ""
