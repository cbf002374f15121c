"""How values are worded wherever they are shown, in a terminal or on a page: names escaped, sizes and shares alike."""

# What an audit says that expected nothing of a config: of a checkpoint that passed, and of any other.
CONSISTENT = "consistent with itself, structure only; nothing says that it is complete"
STRUCTURE_ONLY = "held against itself, structure only"

# Categories of characters that act on a terminal or a page instead of being seen.
ACTING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})


def shown(value: str) -> str:
    """`value` with every control, format, surrogate and separator character as an escape; fit for any view."""
    if value.isascii() and value.isprintable():
        return value
    import unicodedata  # plain names, which nearly all are, do without

    return "".join(_escape(c) if c != " " and unicodedata.category(c) in ACTING else c for c in value)


def _escape(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def size(count: int) -> str:
    """Bytes in binary units, three significant digits: 688574839360 is '641 GiB'."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1023.5 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.3g} {unit}"
        value /= 1024
    raise AssertionError


def share(part: int, whole: int) -> str:
    """A part of a whole in per cent; what is neither none nor all never rounds to 0 or 100."""
    if whole <= 0 or part <= 0:
        return "0 %"
    if part >= whole:
        return "100 %"
    value = 100 * part / whole
    return "under 0.1 %" if value < 0.1 else f"{min(value, 99.9):.1f} %"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """'1 tensor', '2,048 tensors'."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"
