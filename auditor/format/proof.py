"""What a fast decoder passes over in JSON that it takes: a key that is there twice, and -0 in the place of a number.

Whitespace, the order of keys and escapes make no difference to either proof.
"""

_MINUS_ZERO = tuple(before + b"-0" for before in (b"[", b",", b":", b" ", b"\t", b"\n", b"\r"))


def quotes(document: bytes) -> int:
    """The quotation marks around the strings of a JSON document, those inside left out.

    Each string has two, keys included: where a decoded document accounts for all of them, no key was there twice.
    """
    if b"\\" in document:  # pairs of backslashes first: the second escapes nothing
        document = document.replace(b"\\\\", b"").replace(b'\\"', b"")
    return document.count(b'"')


def has_minus_zero(document: bytes) -> bool:
    """Whether a number may be written as -0, which decodes as 0; a string may look like one."""
    # One byte is found many times as fast as two, and few names have it.
    return b"-" in document and b"-0" in document and any(each in document for each in _MINUS_ZERO)
