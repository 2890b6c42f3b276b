"""A damped oscillator, seen with noise: x'' = -(2 pi f)^2 x - 2 g x', released from x = 1 at rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option

from sbikit import Field, Options, Prior, Simulator, Uniform, Values
from sbikit_oscillator.program import called, interpreter

DURATION = 4.0  # seconds that are seen


class OscillatorOptions(Options):
    """Options of `oscillator`."""

    times: int = Option(20, ge=4, le=10_000, description="times at which the displacement is measured")
    noise: float = Option(0.3, gt=0, le=10, description="standard deviation of the noise of a measurement")
    steps: int = Option(500, ge=1, le=10**6, description="steps of the integration between two times")
    seconds: float = Option(60.0, gt=0, description="after which the program is ended and the draw fails")


class Oscillator(Simulator[OscillatorOptions]):
    """Frequency and damping are to be inferred from a series of displacements."""

    prior = Prior(
        {"frequency": Uniform(0.3, 0.7), "damping": Uniform(0.05, 0.8)},
        latex={"frequency": "f", "damping": r"\gamma"},
        units={"frequency": "Hz", "damping": "1/s"},
    )
    observed = ("displacement",)

    def __init__(self, options: OscillatorOptions | None = None) -> None:
        super().__init__(options)
        # It begins and ends: neither stationary nor periodic, which is what a field is where nothing is said.
        extent = {"extent": (DURATION,), "extent_unit": "s"}
        self.outputs = (Field("displacement", (self.options.times,), latex="x", **extent),)
        self._awk = interpreter()

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, NDArray[np.floating]]:
        """displacement (B, 1, times) for theta (B, 2): one call of the program a row."""
        rows = zip(parameters["theta"].tolist(), seeds.tolist(), strict=True)
        return {"displacement": np.stack([self._one(f, g, seed)[None] for (f, g), seed in rows])}

    def _one(self, frequency: float, damping: float, seed: int) -> NDArray[np.floating]:
        """One series (times,)."""
        o = self.options
        # The program counts in doubles, which do not hold 63 bits, and its generators are simple: it gets two
        # numbers below 2^32 that are far apart even for seeds that are close.
        first, second = np.random.SeedSequence(seed).generate_state(2).tolist()
        given = {
            "frequency": frequency,
            "damping": damping,
            "noise": o.noise,
            "steps": o.steps,
            "times": o.times,
            "spacing": DURATION / o.times,
            "seed_1": first,
            "seed_2": second,
        }
        return called(self._awk, given, seconds=o.seconds)
