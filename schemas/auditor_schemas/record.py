"""The base of what a report or a diff is made of."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen value."""

    # defer_build: an audit that prints one line never pays for the schema of what it does not serialise.
    model_config = ConfigDict(frozen=True, defer_build=True)
