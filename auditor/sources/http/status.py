"""What the status of an answer means that is not asked for again."""

from auditor_schemas.codes import Code

_CODES: dict[int, Code] = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    407: "unauthorized",
    410: "not_found",
    429: "throttled",
}


def code_of_status(status: int) -> Code:
    """The code of a status: a server's own failure may be over next time, most refusals will not."""
    return "unreachable" if status >= 500 else _CODES.get(status, "unusable")
