"""A server that speaks S3 over a folder, sparse or not: ListObjectsV2 in pages, GetObject in ranges, PutObject.

Google Cloud Storage answers the same requests at its XML interface, so it stands in for that as well.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote
from xml.sax.saxutils import escape

from tests.servers.serving import Reply, Request, Server, etag_of, ranged


def s3_server(folder: Path, bucket: str, *, page: int = 1000, signed: bool = True) -> Server:
    """Serves a folder as a bucket, `page` keys at a time; with `signed` nothing without a signature."""

    def answer(request: Request) -> Reply:
        if signed and "X-Amz-Signature" not in request.query and "authorization" not in request.headers:
            return Reply(403, b"<Error><Code>AccessDenied</Code></Error>")
        name, _, key = unquote(request.target.path).lstrip("/").partition("/")
        if name != bucket:
            return Reply(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        if request.method == "PUT":
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(request.body)
            return Reply(200, headers={"ETag": etag_of(folder / key)})
        return ranged(folder / key, request) if key else _listed(folder, bucket, request, page)

    return Server(answer)


def _listed(folder: Path, bucket: str, request: Request, page: int) -> Reply:
    prefix, after = request.query.get("prefix", ""), request.query.get("continuation-token", "")
    keys = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    keys = [key for key in keys if key.startswith(prefix) and key > after]
    here = keys[:page]
    contents = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-24T06:00:00.000Z</LastModified>"
        f"<ETag>{escape(etag_of(folder / key))}</ETag><Size>{(folder / key).stat().st_size}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for key in here
    )
    more = len(keys) > page
    token = f"<NextContinuationToken>{escape(here[-1])}</NextContinuationToken>" if more else ""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(here)}</KeyCount>"
        f"<MaxKeys>{page}</MaxKeys><IsTruncated>{str(more).lower()}</IsTruncated>{token}{contents}</ListBucketResult>"
    )
    return Reply(200, body.encode(), {"Content-Type": "application/xml"})
