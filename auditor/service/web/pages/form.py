"""What a posted form says."""

from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from auditor.service.web.problems import BadRequestProblem

_FIELDS = 40


async def _fields(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415)
    try:
        text = (await request.body()).decode("ascii")
        return dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_FIELDS))
    except ValueError:
        raise BadRequestProblem("the form cannot be read") from None


# The fields by name, the last one of a name.
Form = Annotated[dict[str, str], Depends(_fields)]
