"""What else stands in a file's place: a pointer, a page, an archive, told from its first bytes."""

APPLE_DOUBLE = "an AppleDouble file, in which macOS keeps metadata"
_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"\x00\x05\x16\x07", APPLE_DOUBLE),
    (b"version https://git-lfs", "a git-lfs pointer"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<?xml", "an XML document"),
    (b"entry not found", "a 'not found' answer of a hub"),
    (b"invalid username or password", "a refusal of a hub"),
    (b'{"error', "a JSON error message"),
    (b'{"__metadata__"', "a safetensors header without its 8-byte length"),
    (b"pk\x03\x04", "a zip archive (a PyTorch pickle checkpoint looks so)"),
    (b"\x80\x02", "a Python pickle"),
    (b"gguf", "a GGUF file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"\x93numpy", "a NumPy array"),
    (b"\x89hdf", "an HDF5 file"),
)


def disguise(head: bytes, size: int) -> str | None:
    """What stands in a shard's place, told from its first bytes, or None where it may be a shard."""
    if size == 0:
        return "an empty file"
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and length <= size - 8:
        return None  # a header's length may spell a short magic: 640 starts like a pickle, 35,615 like gzip
    start = head[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, kind in _KINDS:
        if start.startswith(magic):
            return kind
    if len(head) >= 16 and not head.strip(b"\x00"):
        return f"{len(head)} zero bytes at its start (a preallocated download looks so)"
    return None


# What JSON never begins with, but a text editor or a shell's redirection writes.
_MARKS = ((b"\xef\xbb\xbf", "UTF-8"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


def disguise_of(data: bytes) -> str | None:
    """What is wrong with a whole file that should be a JSON document and is something else, or None."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            there = " ".join(f"{byte:02x}" for byte in mark)
            return f"begins with a byte order mark of {encoding} (bytes {there}), needs '{{'"
    kind = disguise(data[:4096], len(data))
    return (
        None
        if kind is None or data[:1] == b"{"
        else f"is {kind}, {len(data):,} bytes, not the JSON document of that name"
    )
