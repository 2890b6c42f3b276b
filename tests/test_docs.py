"""What README and docs show is run, and what they name exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import sbikit
from sbikit.testing import check_simulator, check_validator

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of one language."""
    return [code for kind, code in FENCE.findall((ROOT / page).read_text()) if kind == language]


@pytest.mark.parametrize("page", ["README.md", "docs/write-a-plugin.md"])
def test_the_simulator_that_is_shown_keeps_the_contract(page: str) -> None:
    namespace: dict[str, Any] = {}
    exec(blocks(page, "python")[0], namespace)
    check_simulator(namespace["Mine"]())


def test_the_validator_that_is_shown_keeps_the_contract() -> None:
    (code,) = (code for code in blocks("docs/write-a-plugin.md", "python") if "(Validator)" in code)
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    check_validator(namespace["Offset"]())


def test_the_quickstart_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("docs/quickstart.md", "python")
    exec(code, {})
    shown, expected = capsys.readouterr().out.strip(), code.strip().rsplit("# ", 1)[1]
    assert shown.replace("torch.Size([", "(").replace("])", ")").replace(") (", "), (") == expected


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_commands_that_are_shown_exist() -> None:
    from typer.main import get_command

    from sbikit.cli import app

    known = get_command(app).commands  # type: ignore[attr-defined]
    for page in PAGES:
        for code in (c for kind, c in FENCE.findall(page.read_text()) if kind == "sh"):
            for command in re.findall(r"\bsbikit (\w+)", code):
                assert command in known, (page.name, command)


def test_every_public_name_can_be_imported() -> None:
    for name in sbikit.__all__:
        assert getattr(sbikit, name) is not None


def test_versions_agree() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {sbikit.__version__}" in citation
