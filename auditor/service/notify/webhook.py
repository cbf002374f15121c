"""A webhook, signed as Standard Webhooks has it: the id stays over retries, the time and the signatures are new."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import Field
from standardwebhooks import Webhook as Signing

from auditor.service.notify.call import Answer, Call, UntoldError
from auditor.service.notify.kind import Address, Kind
from auditor.service.notify.message import Message


class Webhook(Kind):
    """Told of every audit. A secret of two, with a space between, signs with both, for as long as one replaces the
    other.
    """

    url: Address = Field(description="Where the message is posted to.")

    @property
    def address(self) -> str:
        """Where the target is."""
        return self.url

    def places(self, audit: Mapping[str, Any], origins: Iterable[str]) -> list[str | None]:  # noqa: ARG002  # as Kind has it
        """The audit as a whole."""
        return [None]

    def tell(self, message: Message, call: Call, secret: str) -> Answer:
        """Post it."""
        at, id = datetime.fromtimestamp(message.at_ms // 1000, UTC), f"msg_{message.id}"  # noqa: A001  # what it is
        try:
            signatures = " ".join(Signing(each).sign(id, at, message.body) for each in secret.split())
        except (ValueError, RuntimeError):
            signatures = ""
        if not signatures:
            raise UntoldError(f"the secret '{self.secret}' cannot sign: it has to be whsec_ and base64")
        headers = {
            "Content-Type": "application/json",
            "webhook-id": id,
            "webhook-timestamp": str(message.at_ms // 1000),
            "webhook-signature": signatures,
        }
        return call.ask("POST", self.url, headers, message.body.encode())
