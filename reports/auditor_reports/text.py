"""Values as a report's views print them: untrusted text escaped, numbers exact, sizes in binary units."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from auditor_schemas.wording import plural as plural
from auditor_schemas.wording import share as share
from auditor_schemas.wording import shown as shown
from auditor_schemas.wording import size as size

VALUE_CHARACTERS = 2_000
UNVERSIONED = "none: the source names no version of its files, and a change while they are read may go unseen"

# Unsafe or unseen inside a script element; in JSON text these characters only occur in strings.
_UNSAFE_IN_SCRIPT = re.compile(r"[<>&'\x7f]|[^\x00-\x7f]")


def embed(json_text: str) -> str:
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


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power(exponent: int) -> str:
    """A power of two."""
    return f"2{str(exponent).translate(_SUPERSCRIPT)}"
