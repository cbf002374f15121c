"""What stores and the hub list: taken as another reading takes it, or refused in one line that names the source."""

import json
import os
import random
from pathlib import Path
from typing import Any
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from auditor.errors import AuditorError
from auditor.sources import open_source
from auditor.sources.listing import parse
from tests.fuzz.damage import damage_bytes, damage_document
from tests.fuzz.running import Outcome
from tests.servers.serving import Reply, Server

_NAMES = ("config.json", "model.safetensors.index.json", *(f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)))
_S3 = "".join(
    f"<Contents><Key>v3/{name}</Key><Size>{100 + n}</Size><ETag>&quot;{n}&quot;</ETag></Contents>"
    for n, name in enumerate(_NAMES)
)
_AZURE = "".join(
    f"<Blob><Name>v3/{name}</Name><Properties><Content-Length>{n}</Content-Length><Etag>0x{n}</Etag></Properties></Blob>"
    for n, name in enumerate(_NAMES)
)
_OPENING = '<?xml version="1.0" encoding="UTF-8"?>'
PAGES = (
    f'{_OPENING}<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>{_S3}'
    "<IsTruncated>true</IsTruncated><NextContinuationToken>abc</NextContinuationToken></ListBucketResult>",
    f"{_OPENING}<EnumerationResults><Blobs>{_AZURE}</Blobs><NextMarker>m</NextMarker></EnumerationResults>",
)
HUB = {
    "id": "org/name",
    "sha": "a" * 40,
    "siblings": [
        {"rfilename": name, "size": 100 + n, "blobId": f"{n:040d}", "lfs": {"sha256": f"{n:064d}", "size": 100 + n}}
        for n, name in enumerate(_NAMES)
    ],
}


class Bench:
    """Pages of S3 and Azure, and the hub's answer from a server on loopback."""

    def __init__(self, folder: Path) -> None:
        self.answer = b""
        self.server = Server(lambda _: Reply(200, self.answer, {"Content-Type": "application/json"}))
        os.environ |= {"HF_ENDPOINT": self.server.url, "XDG_CACHE_HOME": str(folder), "HF_TOKEN": "hf_SECRETMARK"}

    def case(self, rng: random.Random, tally: Outcome) -> str | None:
        return self._hub(rng, tally) if rng.random() < 0.3 else self._page(rng, tally)

    def _page(self, rng: random.Random, tally: Outcome) -> str | None:
        data, kind = damage_bytes(rng, rng.choice(PAGES).encode())
        tally.kind(f"page: {kind}")
        page = parse(data)
        tally.verdict("refused" if page is None else "taken")
        if page is None:
            return None
        try:
            root = minidom.parseString(data)
        except (ExpatError, ValueError) as error:
            return f"taken, and no XML: {error}"
        told = [_text(each) for each in root.getElementsByTagNameNS("*", "Key")]
        told = told or [_text(each) for blob in root.getElementsByTagName("Blob") for each in _names(blob)]
        keys = [key for key, _ in page.files]
        return None if set(keys) == set(told) else f"{keys} were taken, another reading has {told}"

    def _hub(self, rng: random.Random, tally: Outcome) -> str | None:
        self.answer, kind = damage_document(rng, json.dumps(HUB).encode())
        tally.kind(f"hub: {kind}")
        source = open_source("hf://org/name", cache=False)
        try:
            entries, _ = source.entries(1000)
        except AuditorError as error:
            tally.verdict("refused")
            return None if str(error).isprintable() else f"an unprintable line: {str(error)!r}"
        finally:
            source.close()
        tally.verdict("taken")
        try:
            told: Any = json.loads(
                self.answer.decode(errors="replace"), parse_int=str
            )  # what is skipped need be no text
        except ValueError as error:
            return f"taken, and no JSON: {error}"
        names = [each["rfilename"].split("/")[0] for each in told["siblings"]]  # of a folder its name
        if set(entries) - set(names):
            return f"{sorted(entries)} were taken, the answer has {names}"
        return None


def _names(blob: minidom.Element) -> list[minidom.Element]:
    return [each for each in blob.childNodes if each.nodeName == "Name"]


def _text(element: minidom.Element) -> str:
    return "".join(
        each.data for each in element.childNodes if each.nodeType in (each.TEXT_NODE, each.CDATA_SECTION_NODE)
    )
