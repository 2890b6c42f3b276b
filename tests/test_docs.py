"""What README and docs show is run, and what they name exists."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import sbikit
from sbikit.cli import app
from sbikit.testing import check_simulator, check_validator

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of one language."""
    return [code for kind, code in FENCE.findall((ROOT / page).read_text()) if kind == language]


def test_priors_that_are_shown_are_priors() -> None:
    (code,) = [code for code in blocks("docs/write-a-plugin.md", "python") if "from_draws" in code]
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    shown = {
        "either": ([0.3, 0.7, 0.95], 6 / np.pi * np.arcsin(-0.3)),  # of uniform laws: the rank correlation
        "normal": ([0.0224, 0.965], 2e-7 / (2.2e-8 * 1.6e-5) ** 0.5),
        "measured": ([0.3, 0.7], np.corrcoef(namespace["chain"].T)[0, 1]),
    }
    for name, (mean, correlation) in shown.items():
        rows = namespace[name].sample(np.arange(4000))["theta"].double().numpy()
        np.testing.assert_allclose(rows.mean(0), mean, rtol=0.02)
        assert np.corrcoef(rows.T)[0, 1] == pytest.approx(correlation, abs=0.05)


def test_answers_to_questions_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of the page, one after the other, with fewer simulations and steps."""
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks("docs/howto.md", "python"))
    fewer = {
        "4000": "600",
        'simulations, "npe", ': 'simulations, "npe", steps=20, ',
        "observations=200": "observations=40",
    }
    for old, new in fewer.items():
        assert old in code
        code = code.replace(old, new)
    space: dict[str, Any] = {"__name__": "page"}
    exec(code, space)
    assert space["table"].shape == (500, 20, 2)
    assert space["low"] < space["high"]
    assert not space["odd"].trust[0].trustworthy
    assert 1 < space["effective"] < 2000
    assert space["kept"].failures["raised"] == 500 - len(space["kept"])
    check_simulator(space["Gap"]())
    check_simulator(space["Hidden"]())
    (command,) = blocks("docs/howto.md", "sh")
    few = ["estimator.steps=20", "sampling.observations=40", "sampling.draws=20", "sampling.shown_draws=50"]
    words = [*command.split()[1:], *(word for value in few for word in ("--set", value))]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert Path("runs/mine/report.html").exists()


def test_what_is_shown_of_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of the page, one after the other, with fewer simulations and steps."""
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks("docs/python.md", "python"))
    assert code.count("5000") == code.count('"npe", ') == 1
    namespace: dict[str, Any] = {"__name__": "page"}
    exec(code.replace("5000", "600").replace('"npe", ', '"npe", steps=20, '), namespace)
    assert namespace["theta"].shape == (1000, 2)
    assert namespace["page"].exists()
    assert namespace["found"].metrics
    assert Path("runs/corner.png").stat().st_size > 10_000


@pytest.mark.parametrize("page", ["README.md", "docs/write-a-plugin.md"])
def test_the_simulator_that_is_shown_keeps_the_contract(page: str) -> None:
    namespace: dict[str, Any] = {}
    exec(blocks(page, "python")[0], namespace)
    check_simulator(namespace["Mine"]())


def test_many_draws_at_once_are_of_the_law_of_one_at_a_time() -> None:
    """Variances of truth and noise, within five of their standard errors."""
    shown = blocks("docs/write-a-plugin.md", "python")
    one, (many,) = shown[0], [code for code in shown if "np.stack([np.random" in code]
    namespace: dict[str, Any] = {}
    exec(one, namespace)
    exec(many, namespace)
    mine = namespace["Mine"]
    at_once = type("AtOnce", (mine,), {"simulate": namespace["simulate"]})()
    check_simulator(at_once)
    theta, seeds = torch.full((200, 1), 1.5), np.arange(200)
    for simulator in (mine(), at_once):
        drawn = simulator.simulate({"theta": theta}, seeds=seeds)
        noise = drawn["image"] - drawn["truth"]
        assert drawn["truth"].shape == (200, 1, 16, 16)
        error = 5 * (2 / noise.size) ** 0.5
        np.testing.assert_allclose([drawn["truth"].var() / 1.5**2, noise.var() / 0.25], 1.0, atol=error)


def test_the_program_that_is_shown_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program doubles each number of its input; it fails where there are other than three."""
    program = tmp_path / "program"
    program.write_text("#!/usr/bin/awk -f\n" + DOUBLES)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (code,) = [block for block in blocks("docs/write-a-plugin.md", "python") if "subprocess" in block]
    namespace: dict[str, Any] = {"np": np}
    exec(code, namespace)
    shown = type("Shown", (), {name: namespace[name] for name in ("simulate", "_one")})()
    theta, seeds = torch.tensor([[0.1, 2.0], [3.0, 4.5]], dtype=torch.float64), np.array([7, 8])
    found = shown.simulate({"theta": theta}, seeds=seeds)
    assert found["data"].tolist() == [[0.2, 4.0, 14.0], [6.0, 9.0, 16.0]]
    program.write_text('#!/usr/bin/awk -f\nBEGIN { print "no star" > "/dev/stderr"; exit 1 }\n')
    with pytest.raises(RuntimeError, match="no star"):
        shown.simulate({"theta": theta}, seeds=seeds)
    assert list(tmp_path.iterdir()) == [program]


DOUBLES = """
BEGIN { getline < ARGV[1]; if (NF != 3) exit 1; print 2 * $1, 2 * $2, 2 * $3 > ARGV[2]; exit 0 }
"""


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
