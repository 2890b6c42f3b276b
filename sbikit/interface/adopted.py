"""Posteriors and simulators of other toolkits, there and back.

A sampler that was made elsewhere is judged as one that was fitted here, and a simulator serves where a prior
and a function are wanted.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Distribution, constraints

from sbikit.interface.asking import AnySimulator, simulator_of
from sbikit.interface.fitted import fit
from sbikit.interface.kept import KeptSimulations
from sbikit.interface.posterior import Posterior
from sbikit.problem.errors import CheckpointError, PluginError
from sbikit.problem.gaps import filled
from sbikit.problem.prior import Prior
from sbikit.problem.seeds import draw_seeds
from sbikit.problem.spec import Spec, check_observation
from sbikit.problem.variables import Values
from sbikit.roles.estimator import Estimator
from sbikit.roles.joint_draws import JointDraws
from sbikit.roles.monitor import Monitor, Workspace
from sbikit.roles.sampler import Draws, Sampler
from sbikit.roles.simulator import Simulator

_LOOKED_AT = 512  # training simulations by which new data are judged to be like them
_QUANTILES = 4096  # of a law, by which its mean and variance are had


def adopt(
    sampler: Any,
    simulations: KeptSimulations | AnySimulator,
    *,
    name: str = "",
    out: str | Path | None = None,
    progress: bool = True,
) -> Posterior:
    """A posterior of a sampler that was made elsewhere, for `sbikit.validate` and `sbikit.report` to judge.

    Args:
        sampler: an `sbikit.Sampler`; or a trained posterior of the package `sbi`, or anything that has
            `sample((n,), x=...)`, of the simulator's parameters given its data in one row (see
            `sbikit.as_prior_and_function`).
        simulations: of the simulator, of which the first 512 tell what its data look like; or the simulator.
        name: what it is called in tables and on the page; its class where left out.
        out: run folder; a temporary one where left out.
        progress: whether progress is shown.

    Raises:
        PluginError: it cannot sample.
    """
    simulator = (
        simulations.simulator if isinstance(simulations, KeptSimulations) else simulator_of(simulations)
    )
    if isinstance(sampler, Sampler):
        own = sampler
    elif callable(getattr(sampler, "sample", None)):
        own = GivenRow(sampler, simulator)
    else:
        raise PluginError(
            "This cannot sample.",
            where="sbikit.adopt",
            expected="an sbikit.Sampler, or something that has sample((n,), x=...)",
            got=type(sampler).__name__,
        )
    estimator = _Adopted(own, name or type(sampler).__name__, contents(sampler))
    return fit(simulations, estimator, out=out, progress=progress)


class GivenRow(Sampler):
    """Draws parameters by something that has `sample((n,), x=row)`, such as a posterior of the package `sbi`.

    Args:
        posterior: draws (n, D) given one row of data; from torch's and numpy's global generators, which are
            set to each observation's seed and then put back.
        simulator: whose parameters and data these are.
    """

    def __init__(self, posterior: Any, simulator: Simulator) -> None:
        self.spec: Spec = simulator.spec.select(simulator.prior.name)
        self._posterior, self._count = posterior, len(simulator.prior.laws)
        bars = "show_progress_bars" in inspect.signature(posterior.sample).parameters
        self._silent = {"show_progress_bars": False} if bars else {}

    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        """See `sbikit.Sampler.sample`."""
        check_observation(observation, self.spec, seeds)
        found = []
        for row, seed in zip(in_a_row(observation, self.spec), seeds, strict=True):
            with _global_state(int(seed)):
                drawn = torch.as_tensor(self._posterior.sample((n,), x=row, **self._silent)).detach()
            if drawn.shape != (n, self._count):
                raise PluginError(
                    "The posterior returned draws of the wrong shape.",
                    where=f"{type(self._posterior).__name__}.sample(({n},), x=...)",
                    expected=f"({n}, {self._count}): draws, parameters",
                    got=str(tuple(drawn.shape)),
                )
            found.append(drawn)
        return Draws.unjudged({self.spec.latents[0].name: torch.stack(found, 1).float()})


class _Adopted(Estimator):
    """Knows its sampler already.

    Args:
        sampler: the sampler.
        called: its name.
        fingerprint: digest of its numbers, by which it is told from another one.
    """

    def __init__(self, sampler: Sampler, called: str, fingerprint: str) -> None:
        super().__init__()
        self._sampler, self.called, self.fingerprint = sampler, called, fingerprint

    def match(self, spec: Spec) -> Spec:
        """What the sampler infers."""
        del spec
        return self._sampler.spec

    def fit(self, simulations: JointDraws, *, seed: int, workspace: Workspace, monitor: Monitor) -> Sampler:
        """Nothing but a look at what the data are like."""
        del seed, workspace, monitor
        most = _LOOKED_AT if simulations.size is None else min(_LOOKED_AT, simulations.size)
        simulations.training(0, most)
        return self._sampler

    def save(self, sampler: Sampler, folder: Path) -> None:
        """The digest alone: the sampler is its owner's to keep."""
        del sampler
        (folder / "adopted.txt").write_text(self.fingerprint + "\n")

    def load(self, folder: Path, simulator: Simulator, *, device: torch.device | str = "cpu") -> Sampler:
        """The sampler itself.

        Raises:
            CheckpointError: the folder is of another one.
        """
        del simulator, device
        file = folder / "adopted.txt"
        if not file.is_file() or file.read_text().strip() != self.fingerprint:
            raise CheckpointError(
                "The run folder was made with another posterior.", where=str(file), expected=self.fingerprint
            )
        return self._sampler


def contents(what: Any) -> str:
    """A digest of all numbers in an object, weights of networks among them, wherever they are kept."""
    found = blake2b(digest_size=8)

    class Numbers(cloudpickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            if isinstance(obj, Tensor | np.ndarray):
                array = np.ascontiguousarray(torch.as_tensor(obj).detach().cpu().numpy())
                found.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
                return True
            if isinstance(obj, float | int) and not isinstance(obj, bool):
                found.update(repr(obj).encode())
            return None

    try:
        Numbers(io.BytesIO(), protocol=5).dump(what)
    except Exception as error:
        raise PluginError(
            "A sampler must be one that cloudpickle can take to pieces: that is how it is told from another.",
            where=type(what).__name__,
            got=f"{type(error).__name__}: {error}",
            fix="close files and pools that it holds",
        ) from error
    return found.hexdigest()


def as_prior_and_function(
    simulator: AnySimulator,
) -> tuple[PriorDistribution, Callable[[Tensor], Tensor]]:
    """A simulator as the package `sbi` and others take one.

    Args:
        simulator: an object, its class, or the name of one that is installed.

    Returns:
        The prior as a distribution of torch, and a function from parameters (B, D), or (D,), to data (B, P):
        all observables of a draw in one row, each flattened, in the simulator's order, and after each that
        can be missing which of its numbers are seen. Both draw from torch's global generator, as such
        functions do.
    """
    made = simulator_of(simulator)

    def simulate(theta: Tensor) -> Tensor:
        rows = torch.atleast_2d(torch.as_tensor(theta, dtype=torch.float32))
        seeds = torch.randint(2**62, (len(rows),)).numpy()
        found = made.simulate({made.prior.name: rows}, seeds=seeds)
        measured = {name: torch.as_tensor(found[name]).float() for name in made.observed}
        return in_a_row(filled(measured, made.spec.measured), made.spec)

    return PriorDistribution(made.prior), simulate


def in_a_row(observation: Values, spec: Spec) -> Tensor:
    """All observables of each of B observations in one row, (B, P), float32."""
    return torch.cat([observation[v.name].float().flatten(1) for v in spec.observables], 1)


class PriorDistribution(Distribution):
    """An `sbikit.Prior` as a distribution of torch, of vectors (D,).

    Args:
        prior: the prior.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, prior: Prior) -> None:
        self.prior = prior
        super().__init__(torch.Size(), torch.Size([len(prior.laws)]), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Of each parameter the interval between its bounds."""
        parts = [_interval(float(law.low), float(law.high)) for law in self.prior.laws.values()]
        return constraints.stack(parts, -1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws (*sample_shape, D), float32, from torch's global generator."""
        shape = torch.Size(sample_shape)
        seeds = draw_seeds(int(torch.randint(2**62, ())), "prior", 0, shape.numel())
        return self.prior.sample(seeds)[self.prior.name].reshape(*shape, -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of values (*batch, D)."""
        return self.prior.log_prob(value).to(value.dtype)

    @property
    def mean(self) -> Tensor:
        """Of each parameter, by 4,096 quantiles."""
        return self._quantiles().mean(0).float()

    @property
    def variance(self) -> Tensor:
        """The same."""
        return self._quantiles().var(0).float()

    def _quantiles(self) -> Tensor:
        shares = (torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES
        white = torch.special.ndtri(shares)
        return self.prior.from_marginal(white[:, None].expand(-1, len(self.prior.laws)))


def _interval(low: float, high: float) -> constraints.Constraint:
    if np.isinf(low) and np.isinf(high):
        return constraints.real
    if np.isinf(high):
        return constraints.greater_than_eq(low)
    return constraints.less_than(high) if np.isinf(low) else constraints.interval(low, high)


@contextmanager
def _global_state(seed: int) -> Iterator[None]:
    """torch's and numpy's global generators at a seed, and as they were afterwards."""
    before = np.random.get_state()  # noqa: NPY002 - of somebody's sampler that draws from it
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
