"""The posterior by brute force.

A bootstrap particle filter (Gordon, Salmond and Smith 1993) at each node of a grid of parameters estimates
the likelihood without bias, and traces who was infected on each day.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from sbikit_epidemic.simulator import Epidemic, State

NODES, PARTICLES = 24, 300


@dataclass(frozen=True)
class Exact:
    """What the posterior of one series of reports is.

    Args:
        mean: of the parameters, (2,).
        sd: of the parameters, (2,).
        infected: mean number of infected people on each day, (days,).
        spread: its standard deviation.
    """

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    infected: NDArray[np.float64]
    spread: NDArray[np.float64]


def exact(
    simulator: Epidemic,
    reports: NDArray[np.floating],
    *,
    seed: int = 0,
    nodes: int = NODES,
    particles: int = PARTICLES,
) -> Exact:
    """The posterior given a series of reports (days,).

    Args:
        simulator: whose series it is.
        reports: whole numbers, one a day.
        seed: of the particles.
        nodes: of the grid, along each parameter.
        particles: at each node.
    """
    rng = np.random.default_rng(seed)
    white = (np.arange(nodes) + 0.5) / nodes
    laws = simulator.prior.laws
    R0 = laws["R0"].low * (laws["R0"].high / laws["R0"].low) ** white
    duration = laws["duration"].low + (laws["duration"].high - laws["duration"].low) * white
    grid = np.stack(np.meshgrid(R0, duration, indexing="ij"), -1).reshape(-1, 2)
    log, paths = _filtered(simulator, np.rint(np.asarray(reports, float)).astype(int), grid, particles, rng)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    mean = weight @ grid
    each = paths.mean(1), (paths.astype(float) ** 2).mean(1)
    infected = weight @ each[0]
    return Exact(
        mean=mean,
        sd=np.sqrt(weight @ (grid - mean) ** 2),
        infected=infected,
        spread=np.sqrt(np.maximum(weight @ each[1] - infected**2, 0.0)),
    )


def _filtered(
    simulator: Epidemic,
    reports: NDArray[np.int64],
    grid: NDArray[np.float64],
    particles: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Log likelihood of each node, (G,), and how many were infected on each day, (G, particles, days)."""
    G, o = len(grid), simulator.options
    R0, duration = (np.repeat(column, particles) for column in grid.T)
    state, log = State(o, G * particles), np.zeros(G)
    infected = np.zeros((o.days, G * particles), np.int32)
    chosen = np.zeros((o.days, G * particles), np.int64)
    first = np.repeat(np.arange(G) * particles, particles)
    for day, seen in enumerate(reports):
        new = state.advance(R0, duration, rng)
        weight = binom.pmf(seen, new, o.reported).reshape(G, particles)
        total = weight.sum(1)
        with np.errstate(divide="ignore"):
            log += np.log(total / particles)
        rows = first + _resampled(weight, total, rng).reshape(-1)
        state.pick(rows)
        infected[day], chosen[day] = state.infected, rows
    path, at = np.zeros_like(infected), np.arange(G * particles)
    for day in reversed(range(o.days)):
        path[day] = infected[day][at]
        at = chosen[day][at]
    return log, path.T.reshape(G, particles, o.days)


def _resampled(
    weight: NDArray[np.float64], total: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Which particle each goes on from, (G, particles), systematically; itself where none has weight."""
    G, particles = weight.shape
    safe = np.where(total[:, None] > 0, weight, 1.0)
    edges = np.cumsum(safe / safe.sum(1, keepdims=True), 1)
    edges[:, -1] = 1.0
    points = (np.arange(particles) + rng.random((G, 1))) / particles
    flat = (edges + np.arange(G)[:, None]).reshape(-1)
    found = np.searchsorted(flat, (points + np.arange(G)[:, None]).reshape(-1)).reshape(G, particles)
    return np.minimum(found - np.arange(G)[:, None] * particles, particles - 1)
