"""docs/service-api.md is what the OpenAPI document says."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_of_the_api_is_that_of_the_openapi_document() -> None:
    page = runpy.run_path(str(DOCS / "make_service_api.py"))["page"]
    assert (DOCS / "service-api.md").read_text("utf-8") == page(), "make service-api"
