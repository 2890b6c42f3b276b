"""Options of a plug-in: a frozen pydantic model that refuses what it does not know."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Base of every plug-in's options.

    Give each field a type, a default and a `Field(description=...)`: the command line, the
    YAML file, its JSON schema and the messages on bad input are all made from them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
