"""A run folder with the plug-ins that its configuration names, each made when it is first needed."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TypeVar, cast

import torch

from sbikit.plugins import registry
from sbikit.plugins.installed import Kind
from sbikit.problem.errors import DeviceError, UnsupportedError
from sbikit.problem.memory import check_memory
from sbikit.problem.spec import Spec
from sbikit.roles.estimator import Estimator
from sbikit.roles.joint_draws import JointDraws
from sbikit.roles.plugin import Plugin, supports
from sbikit.roles.sampler import ExactSampler, Sampler
from sbikit.roles.simulator import Simulator, SupportsFacts
from sbikit.roles.validator import Validator
from sbikit.run.config import Choice, RunConfig
from sbikit.run.console_monitor import ConsoleMonitor
from sbikit.run.folder import RunFolder
from sbikit.run.lent import Lent
from sbikit.run.own_store import stored
from sbikit.run.provenance import Provenance
from sbikit.simulations.left_out import LeftOut
from sbikit.simulations.stream import Simulations
from sbikit.simulations.trying import simulating
from sbikit.workers.places import Place, open_pool
from sbikit.workers.pool import Pool

PluginT = TypeVar("PluginT", bound=Plugin)


def choose_device(name: str) -> torch.device:
    """The device behind "cpu", "cuda" or "auto".

    Raises:
        DeviceError: it is another word, or "cuda" was asked for and there is no GPU.
    """
    if name not in ("cpu", "cuda", "auto"):
        raise DeviceError("There is no such device.", where="device", expected="cpu, cuda or auto", got=name)
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise DeviceError(
            "There is no GPU that torch can use.",
            where="device",
            expected="a CUDA device",
            got=f"torch {torch.__version__}, none visible",
            fix="use --device cpu, or install a CUDA build of torch and check `nvidia-smi`",
        )
    return torch.device("cuda" if there and name != "cpu" else "cpu")


class Run:
    """A run folder and its plug-ins.

    Args:
        folder: the run folder.
        monitor: where progress goes.
        device: where networks run.
        command: what the user typed, for provenance.json.
        place: where simulations are run.
    """

    def __init__(
        self,
        folder: RunFolder,
        monitor: ConsoleMonitor,
        device: torch.device,
        command: str = "",
        place: Place | None = None,
    ) -> None:
        self.folder = folder
        self.config: RunConfig = folder.config
        self.monitor = monitor
        self.device = device
        self._command = command
        self.place = place or Place()
        self._pool: Pool | None = None

    @cached_property
    def provenance(self) -> Provenance:
        """Keeper of provenance.json."""
        return Provenance(self.folder, self._command, str(self.device))

    @cached_property
    def simulator(self) -> Simulator:
        """The simulator."""
        return _made("simulator", self.config.simulator, Simulator)

    @cached_property
    def estimator(self) -> Estimator:
        """The estimator."""
        return _made("estimator", self.config.estimator, Estimator)

    @cached_property
    def validators(self) -> tuple[Validator, ...]:
        """The validators."""
        return tuple(_made("validator", choice, Validator) for choice in self.config.validators)

    @cached_property
    def reference(self) -> Sampler | None:
        """The sampler of the exact posterior, if any."""
        choice = self.config.reference
        if choice is None:
            return None
        exact = _made("sampler", choice, ExactSampler)
        return exact.posterior(self.simulator, monitor=self.monitor, device=self.device)

    @cached_property
    def stream(self) -> Simulations:
        """The training and held-out streams, without end."""
        return Simulations(
            self.simulator,
            self.config.seed,
            timeout=self.config.simulations.timeout,
            workers=self.lend_workers,
            left_out=self.left_out,
        )

    @cached_property
    def left_out(self) -> LeftOut:
        """The draws of the streams that failed."""
        return LeftOut(self.config.simulations.max_failures, self.folder.left_out)

    @cached_property
    def simulations(self) -> JointDraws:
        """What is trained on: the streams, or what is kept."""
        if self.config.simulations.count is None:
            return self.stream
        return stored(self.folder, self.stream)

    def lend_workers(self) -> Pool:
        """Workers that simulate; started when they are first wanted."""
        if self._pool is None:
            recipe = simulating(self.simulator, by_options=True)
            self._pool = open_pool(self.place, recipe, self.monitor)
        return Lent(self._pool)

    def close(self) -> None:
        """End the workers."""
        if "stream" in vars(self):
            self.stream.close()
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    @cached_property
    def spec(self) -> Spec:
        """What the estimator infers."""
        return self.estimator.match(self.simulator.spec)

    @cached_property
    def sampler(self) -> Sampler:
        """The fitted posterior, read from the folder."""
        return self.estimator.load(self.folder.estimator, self.simulator, device=self.device)

    def prepare(self) -> None:
        """Make every plug-in, so that what cannot work is refused before any work is done."""
        _ = self.validators, self.reference
        left_out = [v.name for v in self.simulator.spec.latents if v not in self.spec.latents]
        if left_out:
            self.monitor.say(
                f"{self.config.estimator.name} infers {', '.join(v.name for v in self.spec.latents)} "
                f"and leaves out {', '.join(left_out)}."
            )
        self._refuse_lesser_reference()
        self._refuse_giant()
        self.provenance.note("inferred", [v.name for v in self.spec.latents])
        if supports(self.simulator, SupportsFacts):
            self.provenance.note("facts", dict(self.simulator.facts()))

    def _refuse_giant(self) -> None:
        """Refuse more draws than fit into memory."""
        sampling = self.config.sampling
        numbers = sum(math.prod(v.shape) for v in self.spec.latents)
        everything = numbers + sum(math.prod(v.shape) for v in self.simulator.spec.observables)
        wanted = {
            "observations": everything * sampling.observations,
            "draws x observations": numbers * sampling.draws * sampling.observations,
            "shown_draws": numbers * sampling.shown_draws,
        }
        if self.reference is not None:
            exact = numbers * sampling.reference_draws * sampling.reference_observations
            wanted["reference_draws x reference_observations"] = exact
        for names, count in wanted.items():
            check_memory(
                count,
                f"{names.replace('_', ' ')} of a problem of {numbers:,} numbers",
                where=" x ".join(f"sampling.{name}" for name in names.split(" x ")),
                fix="ask for fewer",
            )

    def _refuse_lesser_reference(self) -> None:
        """Refuse a reference that leaves out what is to be compared with it."""
        if self.reference is None or self.config.reference is None:
            return
        name, known = self.config.reference.name, self.reference.spec.latents
        missing = [v.name for v in self.spec.latents if v not in known]
        if missing:
            raise UnsupportedError(
                f"The reference {name!r} does not infer all that {self.config.estimator.name!r} infers.",
                where=f"reference {name}",
                expected=", ".join(v.name for v in self.spec.latents),
                got=", ".join(v.name for v in known),
                fix="choose another reference, or none",
            )


def _made(kind: Kind, choice: Choice, base: type[PluginT]) -> PluginT:
    """The plug-in of a choice, whose options are checked already."""
    cls = cast("type[PluginT]", registry.resolve(kind, choice.name))
    return cls(choice.options)
