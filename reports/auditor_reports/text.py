"""Values as a report's views print them: untrusted text escaped, numbers exact, sizes in binary units."""

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

VALUE_CHARACTERS = 2_000
UNVERSIONED = "none: the source names no version of its files, and a change while they are read may go unseen"

_ACTING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
# Unsafe or unseen inside a script element; in JSON text these characters only occur in strings.
_UNSAFE_IN_SCRIPT = re.compile(r"[<>&'\x7f]|[^\x00-\x7f]")


def shown(value: str) -> str:
    """`value` with every control, format, surrogate and separator character as an escape; fit for any view."""
    if value.isascii() and value.isprintable():
        return value
    return "".join(_escape(c) if c != " " and unicodedata.category(c) in _ACTING else c for c in value)


def _escape(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def embedded(json_text: str) -> str:
    """JSON text that stands inside a script element without ending it and parses back equal."""
    return _UNSAFE_IN_SCRIPT.sub(_json_escape, json_text)


def _json_escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"


def number(value: int) -> str:
    """Exact, with thousands separators."""
    return f"{value:,}"


def signed(value: int) -> str:
    """A difference: '+1,536', '\N{MINUS SIGN}1,536' or '0'."""
    return "0" if value == 0 else f"{value:+,}".replace("-", "\N{MINUS SIGN}")


def percent(value: float, *, digits: int = 3) -> str:
    """A deviation with its sign: '+0.004 %'."""
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f} %".replace("-", "\N{MINUS SIGN}") if rounded else f"{0:.{digits}f} %"


def share(part: int, whole: int) -> str:
    """A part of a whole in per cent; what is neither none nor all never rounds to 0 or 100."""
    if whole <= 0 or part <= 0:
        return "0 %"
    if part >= whole:
        return "100 %"
    value = 100 * part / whole
    if value < 0.1:
        return "under 0.1 %"
    return f"{min(value, 99.9):.1f} %"


def size(count: int) -> str:
    """Bytes in binary units, three significant digits: 688574839360 is '641 GiB'."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1023.5 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.3g} {unit}"
        value /= 1024
    raise AssertionError


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """'1 tensor', '2,048 tensors'."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def listed(items: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def shape(value: Iterable[int]) -> str:
    """'7168 × 2048'; a tensor without dimensions is a 'scalar'."""
    return " \N{MULTIPLICATION SIGN} ".join(str(v) for v in value) or "scalar"


def words(identifier: str) -> str:
    """An identifier as words: 'mtp_routed_experts' is 'MTP routed experts'."""
    return " ".join(_ACRONYMS.get(word, word) for word in identifier.split("_"))


_ACRONYMS = {"mtp": "MTP", "mlp": "MLP"}


def value(content: Any) -> str:
    """What was expected or found, in one line: numbers with separators, shapes in parentheses, the rest as JSON."""
    if isinstance(content, str):
        text = content
    elif isinstance(content, bool) or content is None:
        text = {True: "true", False: "false", None: "none"}[content]
    elif isinstance(content, int):
        text = number(content)
    elif isinstance(content, list | tuple) and all(type(v) is int for v in content):
        text = f"({', '.join(str(v) for v in content)}{',' if len(content) == 1 else ''})"
    else:
        text = json.dumps(content, ensure_ascii=False, default=str)
    if len(text) > VALUE_CHARACTERS:
        return f"{text[:VALUE_CHARACTERS]}… ({number(len(text))} characters, complete in the JSON)"
    return text
