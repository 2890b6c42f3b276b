"""A run folder with the plug-ins that its configuration names, each made when it is first needed."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TypeVar, cast

import torch

from sbikit.plugins import registry, session
from sbikit.plugins.installed import Kind
from sbikit.problem.errors import UnsupportedError
from sbikit.problem.memory import check_memory
from sbikit.problem.spec import Spec
from sbikit.problem.variables import count_numbers
from sbikit.roles.estimator import Estimator
from sbikit.roles.joint_draws import JointDraws
from sbikit.roles.monitor import Monitor
from sbikit.roles.plugin import Plugin, supports
from sbikit.roles.sampler import ExactSampler, Sampler, SupportsPrecision
from sbikit.roles.simulator import Simulator, SupportsFacts
from sbikit.roles.validator import Validator
from sbikit.runs.config import Choice, RunConfig
from sbikit.runs.console_monitor import ConsoleMonitor
from sbikit.runs.devices import Devices, check_devices, choose_precision
from sbikit.runs.folder import RunFolder
from sbikit.runs.lent import Lent
from sbikit.runs.own_store import gives_draws, stored
from sbikit.runs.provenance import Provenance
from sbikit.simulations.left_out import LeftOut
from sbikit.simulations.stream import Simulations
from sbikit.simulations.trying import simulating
from sbikit.workers.places import Place, open_pool
from sbikit.workers.pool import Pool, Recipe

# Workers of a cluster that somebody else has started: where there are more, some have nothing to draw.
_UNKNOWN_CLUSTER = 8

PluginT = TypeVar("PluginT", bound=Plugin)


class Run:
    """A run folder and its plug-ins.

    Args:
        folder: the run folder.
        monitor: where progress goes.
        device: where networks run.
        command: what the user typed, for provenance.json.
        place: where simulations are run.
        devices: what the estimator is fitted on; what the configuration says where left out.
    """

    def __init__(
        self,
        folder: RunFolder,
        monitor: ConsoleMonitor,
        device: torch.device,
        command: str = "",
        place: Place | None = None,
        *,
        devices: Devices | None = None,
    ) -> None:
        self.folder = folder
        self.config: RunConfig = folder.config
        self.monitor = monitor
        self.device = device
        told = self.config.devices, self.config.device_batch, self.config.precision
        self.devices = devices or Devices(*told)
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
        return self.make_reference(choice, self.monitor)

    def make_reference(self, choice: Choice, monitor: Monitor) -> Sampler:
        """The exact posterior of the simulator.

        Args:
            choice: by what.
            monitor: hears what its sampler has to say.
        """
        exact = _made("sampler", choice, ExactSampler)
        return exact.posterior(self.simulator, monitor=monitor, device=self.device)

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
        if self.config.simulations.count is None and not gives_draws(self.config):
            return self.stream
        return stored(self.folder, self.stream)

    @property
    def held_out(self) -> JointDraws:
        """Where held-out draws come from."""
        return self.simulations if gives_draws(self.config) else self.stream

    @property
    def drawers(self) -> int:
        """Processes that draw posteriors: the workers, but for a GPU, which one process uses best."""
        if self.device.type == "cuda":
            return 1
        return _UNKNOWN_CLUSTER if self.place.address else self.place.workers

    def open_drawers(self, recipe: Recipe) -> Pool:
        """Workers that draw posteriors."""
        place = Place() if self.drawers == 1 else self.place
        return open_pool(place, recipe, self.monitor)

    def shared(self, count: int, at_once: int) -> int:
        """How many of `count` observations to draw at once, `at_once` at most, so that all have work."""
        return max(1, min(at_once, math.ceil(count / self.drawers)))

    def lend_workers(self) -> Pool:
        """Workers that simulate; started when they are first wanted."""
        if self._pool is None:
            known = session.held("simulator", self.config.simulator.name)
            recipe = simulating(self.simulator, by_options=known is None)
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
        sampler = self.estimator.load(self.folder.estimator, self.simulator, device=self.device)
        precision = choose_precision(self.devices.precision, self.device)
        if precision != torch.float32 and supports(sampler, SupportsPrecision):
            self.monitor.say(f"networks multiply in {str(precision).removeprefix('torch.')}")
            return sampler.in_precision(precision)
        return sampler

    def prepare(self) -> None:
        """Make every plug-in, so that what cannot work is refused before any work is done."""
        _ = self.validators, self.reference
        left_out = [v.name for v in self.simulator.spec.latents if v not in self.spec.latents]
        if left_out:
            self.monitor.say(
                f"{self.config.estimator.name} infers {', '.join(v.name for v in self.spec.latents)} "
                f"and leaves out {', '.join(left_out)}."
            )
        self._refuse_undivided()
        self._refuse_lesser_reference()
        self._refuse_giant()
        self.provenance.note("inferred", [v.name for v in self.spec.latents])
        if supports(self.simulator, SupportsFacts):
            self.provenance.note("facts", dict(self.simulator.facts()))

    def _refuse_undivided(self) -> None:
        """Refuse devices that are not there, and an estimator that cannot share its work."""
        count, batch = self.devices.count, self.devices.batch
        check_devices(self.device, count)
        wanted = {"devices": count != 1, "device_batch": batch is not None}
        if any(wanted.values()) and not self.estimator.divides:
            name = self.config.estimator.name
            raise UnsupportedError(
                f"The estimator {name!r} cannot divide its training.",
                where=", ".join(key for key, given in wanted.items() if given),
                expected="devices: 1, device_batch: null",
                got=f"devices: {count}, device_batch: {batch}",
                fix="leave them out, or choose another estimator",
            )

    def _refuse_giant(self) -> None:
        """Refuse what has to be in memory at once and does not fit: draws for one observation, the data."""
        sampling = self.config.sampling
        numbers = count_numbers(self.spec.latents)
        everything = numbers + count_numbers(self.simulator.spec.observables)
        wanted = {
            "observations": everything * sampling.observations,
            "draws": numbers * sampling.draws,
            "shown_draws": numbers * sampling.shown_draws,
        }
        if self.reference is not None:
            exact = count_numbers(self.reference.spec.latents)
            wanted["reference_draws"] = exact * sampling.reference_draws
        for name, count in wanted.items():
            check_memory(
                count,
                f"{name.replace('_', ' ')} of a problem of {numbers:,} numbers",
                where=f"sampling.{name}",
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
    """The plug-in of a choice, whose options are checked already, which its registry holds to be a `base`."""
    return cast("PluginT", registry.made(kind, choice.name, choice.options))
