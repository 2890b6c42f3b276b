"""Forty simulators, most of them bad, and what must become of each in `plugins check` and in `run`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _faults.commands import command
from _faults.runs import KINDS, numbers
from sbikit import Normal, Prior, Simulator, Uniform, Vector

_Function = Callable[[Any, np.ndarray, np.ndarray], Any]


def _right(self: Any, theta: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """x (B, 3) = theta through a matrix, and noise of each draw's own seed."""
    del self
    noise = np.stack([np.random.default_rng(int(seed)).normal(size=3) for seed in seeds])
    return theta @ np.array([[1.0, -0.5, 0.8], [0.3, 1.0, 0.6]]) + 0.7 * noise


def _class(name: str, function: _Function, **more: Any) -> type[Simulator]:
    """A simulator whose x is what `function` says of theta (B, 2) and seeds (B,)."""

    def simulate(self: Any, parameters: Any, *, seeds: Any) -> Any:
        found = function(self, parameters["theta"].numpy(), seeds)
        return found if isinstance(found, dict) or found is None else {"x": found}

    body = {
        "prior": Prior({"a": Normal(1.0, 0.5), "b": Uniform(-2.0, 1.5)}),
        "outputs": (Vector("x", ("x1", "x2", "x3")),),
        "observed": ("x",),
        "simulate": simulate,
        **more,
    }
    return type(name, (Simulator,), body)


def _put(value: float) -> _Function:
    """One entry of the output replaced, in one draw of seven."""

    def function(self: Any, theta: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        x = _right(self, theta, seeds)
        x[seeds % 7 == 0, 1] = value
        return x

    return function


def _after(change: Callable[[np.ndarray], Any]) -> _Function:
    return lambda self, theta, seeds: change(_right(self, theta, seeds))


def _raises(error: BaseException) -> _Function:
    def function(self: Any, theta: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        if (seeds % 7 == 0).any():
            raise error
        return _right(self, theta, seeds)

    return function


def _buffer(self: Any, theta: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    if getattr(self, "kept", None) is None or len(self.kept) != len(seeds):
        self.kept = np.empty((len(seeds), 3))
    self.kept[...] = _right(self, theta, seeds)
    return self.kept


def _big_buffer(self: Any, theta: np.ndarray, seeds: np.ndarray) -> torch.Tensor:
    if getattr(self, "kept", None) is None:
        self.kept = torch.empty(100_000, 3)
    self.kept[: len(seeds)] = torch.from_numpy(_right(self, theta, seeds)).float()
    return self.kept[: len(seeds)]


def _in_place(self: Any, theta: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    x = _right(self, theta, seeds)
    theta += 1.0
    return x


def _sorted(self: Any, theta: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    theta.sort(axis=0)
    return _right(self, theta, seeds)


def _counts(self: Any, theta: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    self.calls = getattr(self, "calls", 0) + 1
    return _right(self, theta, seeds) + 1e-3 * self.calls


def _global(self: Any, theta: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    return theta @ np.ones((2, 3)) + np.random.normal(size=(len(seeds), 3))  # noqa: NPY002


def _reseeds(self: Any, theta: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    return _right(self, theta, seeds)


def _first_seed(self: Any, theta: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    del self
    return theta @ np.ones((2, 3)) + np.random.default_rng(int(seeds[0])).normal(size=(len(seeds), 3))


def _clock(self: Any, theta: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    del self
    return theta @ np.ones((2, 3)) + np.random.default_rng(time.time_ns()).normal(size=(len(seeds), 3))


def _batch_mean(self: Any, theta: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    x = _right(self, theta, seeds)
    return x - x.mean(0)


def _plain(self: Any, theta: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    del self, seeds
    return theta @ np.ones((2, 3))


# name -> (what x is, refused by `plugins check`, refused by `run`); None: either will do
CASES: dict[str, tuple[_Function, bool | None, bool | None]] = {
    "right": (_right, False, False),
    "deterministic": (_plain, False, False),
    "slow": (lambda s, t, e: (time.sleep(1e-3), _right(s, t, e))[1], False, False),
    "float64": (_after(lambda x: x.astype("f8")), False, False),
    "lists": (_after(lambda x: x.tolist()), False, False),
    "big-endian": (_after(lambda x: x.astype(">f8")), False, False),
    "read-only": (_after(lambda x: (x.setflags(write=False), x)[1]), False, False),
    "reversed": (_after(lambda x: np.ascontiguousarray(x[:, ::-1])[:, ::-1]), False, False),
    "fortran": (_after(np.asfortranarray), False, False),
    "gradient": (_after(lambda x: torch.tensor(x, requires_grad=True)), False, False),
    "nan": (_put(np.nan), True, True),
    "infinite": (_put(np.inf), True, True),
    "huge": (_put(1e300), True, True),
    "all-nan": (_after(lambda x: x * np.nan), True, True),
    "narrow": (_after(lambda x: x[:, :2]), True, True),
    "wide": (_after(lambda x: np.concatenate([x, x], 1)), True, True),
    "transposed": (_after(lambda x: x.T), True, True),
    "short": (_after(lambda x: x[:-1]), True, True),
    "flat": (_after(np.ravel), True, True),
    "scalar": (lambda s, t, e: 3.0, True, True),
    "complex": (_after(lambda x: x + 1j), True, True),
    "text": (_after(lambda x: x.astype(str)), True, True),
    "objects": (_after(lambda x: np.array(x, dtype=object)), True, True),
    "nothing": (lambda s, t, e: None, True, True),
    "no-x": (lambda s, t, e: {}, True, True),
    "misnamed": (_after(lambda x: {"y": x}), True, True),
    "ragged": (_after(lambda x: {"x": [row[: 1 + i % 2] for i, row in enumerate(x.tolist())]}), True, True),
    "raises": (_raises(ValueError("no solution")), True, True),
    "asserts": (_raises(AssertionError()), True, True),
    "out-of-memory": (_raises(MemoryError()), True, True),
    "recurses": (_raises(RecursionError("too deep")), True, True),
    "stops": (_raises(StopIteration()), True, True),
    "exits": (_raises(SystemExit(0)), True, True),
    "global-numpy": (_global, True, True),
    "reseeds": (_reseeds, True, None),
    "first-seed": (_first_seed, True, True),
    "clock": (_clock, True, True),
    "calls": (_counts, True, True),
    "batch-mean": (_batch_mean, True, True),
    "buffer": (_buffer, None, None),
    "big-buffer": (_big_buffer, None, None),
    "in-place": (_in_place, None, None),
    "sorts": (_sorted, True, True),
    "unheld": (_after(lambda x: x + 1e9), True, True),
}
BAD = {f"faults-{name}": f"Case{i}" for i, name in enumerate(CASES)}
for _i, (_x, _, _) in enumerate(CASES.values()):
    globals()[f"Case{_i}"] = _class(f"Case{_i}", _x)


_ALIKE = {"float64", "lists", "big-endian", "read-only", "reversed", "fortran", "gradient", "slow"}
_ALIKE |= {"buffer", "big-buffer", "in-place", "reseeds"}


def _numbers_if_done(run: Path) -> dict[str, str] | None:
    """The numbers of a run; None where it was refused."""
    return numbers(run) if (run / "metrics.json").exists() else None


def _right_numbers(folder: Path) -> dict[str, str]:
    """The numbers of the run of the right simulator, which what looks alike must give, too."""
    place = folder / "pristine" / "simulator"
    if not (place / "run" / "report.html").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        command(_words("right"), place)
    return numbers(place / "run")


def _words(name: str) -> list[str]:
    words = [f"faults-{name}" if word == "faults-vector" else word for word in KINDS[0].words]
    return [*words, "--out", "run"]


def simulated(folder: Path, number: int) -> dict[str, object]:
    """One simulator, checked and run."""
    name = list(CASES)[number]
    _, check_refuses, run_refuses = CASES[name]
    place = folder / "simulators" / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    problems = []
    for what, called, refuses in (
        ("check", ["plugins", "check", f"faults-{name}"], check_refuses),
        ("run", _words(name), run_refuses),
    ):
        outcome = command(called, place)
        wanted = (0, 2) if refuses is None else (2,) if refuses else (0,)
        if outcome.status not in wanted or outcome.broke():
            problems.append(f"{what}: status {outcome.status}, not {wanted}: {outcome.last()}")
    same = not _ALIKE & {name} or _numbers_if_done(place / "run") in (None, _right_numbers(folder))
    problems += [] if same else ["run: other numbers than those of the right simulator"]
    if not problems:
        shutil.rmtree(place)
    return {"what": name, "well": not problems, "said": "; ".join(problems)}
