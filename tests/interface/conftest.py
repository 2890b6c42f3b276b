from __future__ import annotations

import pytest
from known import Known

from sbikit.plugins import session


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that knows of no plug-ins yet."""
    monkeypatch.setattr(session, "_HELD", {})
    Known._fits.clear()
