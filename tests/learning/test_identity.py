"""What a problem is told by is the same in the next process, and differs where its coordinates do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.distributions import constraints

from sbikit import CheckpointError, Field, Normal, Prior, Simulator, Vector
from sbikit.learning import describe_problem, read_checkpoint, write_checkpoint

MINE = '''
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.distributions import constraints

from sbikit import Law, Prior, Simulator, Vector
from sbikit.learning import describe_problem, read_checkpoint, write_checkpoint


class Half(Law):
    """|N(0, scale)|; no repr, a tensor, a function and a value that is kept once it was asked for."""

    low, high = 0.0, math.inf

    def __init__(self, scale):
        self.scale = torch.tensor(scale, dtype=torch.float64)
        self.kept = None
        self.root = lambda x: x

    def from_white(self, z):
        self.kept = object()
        return -self.scale * torch.special.ndtri(0.5 * torch.special.ndtr(-z))

    def to_white(self, x):
        return -torch.special.ndtri(2 * torch.special.ndtr(-x / self.scale))

    def log_density(self, x):
        return -0.5 * (x / self.scale) ** 2


@dataclass(frozen=True, repr=False)
class Frozen(Half):
    scale: float

    def from_white(self, z):
        return -self.scale * torch.special.ndtri(0.5 * torch.special.ndtr(-z))


class Above(constraints.Constraint):
    def __init__(self, least):
        self.lower_bound = least

    def check(self, value):
        return value > self.lower_bound


class Mine(Simulator):
    observed = ("x",)

    def __init__(self, law, scale, least):
        self.prior = Prior({"a": {"half": Half, "frozen": Frozen}[law](scale)})
        self.outputs = (Vector("x", ("x",)), Vector("b", ("b",), support=Above(least)))

    def simulate(self, parameters, *, seeds):
        return {"x": parameters["theta"], "b": parameters["theta"]}


path, law, scale, least = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
simulator = Mine(law, scale, least)
problem = describe_problem(simulator, simulator.spec)
if path.exists():
    read_checkpoint(path, "test 1").check_problem(problem)
else:
    write_checkpoint(path, "test 1", {}, {"problem": problem})
'''


def _run(script: Path, *words: object) -> str:
    done = subprocess.run(
        [sys.executable, str(script), *map(str, words)], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1] + done.stderr


@pytest.mark.parametrize("law", ["half", "frozen"])
def test_a_law_and_a_support_of_ones_own_are_known_again_in_the_next_process(tmp_path, law) -> None:
    script, kept = tmp_path / "mine.py", tmp_path / "kept.safetensors"
    script.write_text(MINE)
    assert _run(script, kept, law, 2.0, 0.0) == ""
    assert _run(script, kept, law, 2.0, 0.0) == ""
    assert "its prior differ" in _run(script, kept, law, 2.000001, 0.0)
    assert "its latents differ" in _run(script, kept, law, 2.0, -1.0)


class Toy(Simulator):
    observed = ("x",)

    def __init__(self, support: constraints.Constraint) -> None:
        self.prior = Prior({"a": Normal(0.0, 1.0)})
        self.outputs = (Vector("x", ("x",)), Field("f", (4,), support=support))

    def simulate(self, parameters, *, seeds):
        raise NotImplementedError


def test_the_support_is_part_of_the_problem(tmp_path) -> None:
    supports = [
        constraints.real,
        constraints.positive,
        constraints.nonnegative,
        constraints.greater_than(1.0),
        constraints.less_than(1.0),
        constraints.unit_interval,
        constraints.interval(0.0, 2.0),
        constraints.interval(torch.tensor(0.0), torch.tensor(3.0)),
        constraints.independent(constraints.interval(0.0, 4.0), 1),
    ]
    problems = [describe_problem(Toy(support), Toy(support).spec) for support in supports]
    write_checkpoint(tmp_path / "w", "test 1", {}, {"problem": problems[0]})
    kept = read_checkpoint(tmp_path / "w", "test 1")
    kept.check_problem(problems[0])
    for problem in problems[1:]:
        with pytest.raises(CheckpointError, match="latents differ"):
            kept.check_problem(problem)
    assert len({str(problem) for problem in problems}) == len(problems)
