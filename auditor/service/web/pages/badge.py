"""The picture of the service."""

from fastapi import APIRouter
from starlette.responses import Response

from auditor.service.web.pages.document import text_of

router = APIRouter(include_in_schema=False)
_PICTURE = "image/svg+xml"


@router.get("/icon.svg")
def icon() -> Response:
    """What browsers show beside the title."""
    return Response(text_of("icon.svg"), media_type=_PICTURE, headers={"Cache-Control": "public, max-age=86400"})
