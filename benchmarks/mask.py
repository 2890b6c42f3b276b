"""What a mask costs statistics of maps: `python benchmarks/mask.py [--size PIXELS]`.

The patch of the preset `standard` with all galaxies in one bin, and the convergence taken to be Gaussian
with the spectrum of the prior's median. The information that the unmasked shear has on the
parameters (the Fisher matrix, half a trace over all pixels) is compared with that of the power of maps made
of it, in 12 bands of wave numbers, whose means and covariances are those of quadratic forms of a normal
vector, exactly. Half the logarithm of the ratio of two determinants is what a posterior that is normal loses,
in nats. Nothing here is random.
"""

from __future__ import annotations

import argparse

import torch
from _record import record
from torch import Tensor

from sbikit import load
from sbikit.fields.rings import logarithmic_edges
from sbikit.runs.config import load_config
from sbikit_lognormal.simulator import LogNormal
from sbikit_lognormal.survey.lensing import KaiserSquires

BANDS, STEP = 12, 1e-3


def derivatives(simulator: LogNormal) -> tuple[Tensor, list[Tensor]]:
    """Power of all N x N modes at the prior's median, and its slopes in white parameters."""
    u = torch.zeros(1 + 2 * len(simulator.prior.laws), len(simulator.prior.laws), dtype=torch.float64)
    for i in range(u.shape[1]):
        u[1 + 2 * i, i], u[2 + 2 * i, i] = STEP, -STEP
    theta = simulator.prior.from_white(u)
    power = simulator.mode_power(theta)[:, 0]
    n = simulator.options.size
    fold = torch.minimum(torch.arange(n), n - torch.arange(n))
    power = power[:, fold][:, :, fold]
    return power[0], [(power[1 + 2 * i] - power[2 + 2 * i]) / (2 * STEP) for i in range(u.shape[1])]


def covariance(power: Tensor, seen: Tensor) -> Tensor:
    """Of both components of the shear in the pixels that are seen, (2 n, 2 n)."""
    n = len(power)
    ones = torch.eye(n**2, dtype=torch.float64).unflatten(1, (n, n))
    shear = KaiserSquires(n, torch.float64).shear(ones)[:, seen.expand(2, -1, -1)]
    of_field = torch.fft.ifft2(torch.fft.fft2(ones) * power).real.flatten(1)
    return shear.T @ of_field @ shear


def noise(simulator: LogNormal) -> Tensor:
    """Variance of both components in the pixels that are seen, (2 n,)."""
    survey = simulator.survey
    return survey.noise[0][survey.mask].double().square().repeat(2)


def maps_of_each_number(simulator: LogNormal) -> dict[str, Tensor]:
    """By name, maps that are linear in the shear: of each number that is seen alone, (2 n, N, N)."""
    seen = simulator.survey.mask
    alone = torch.zeros(2, len(seen), len(seen), 2 * int(seen.sum()))
    alone[seen.expand(2, -1, -1)] = torch.eye(alone.shape[-1])
    shear = alone.movedim(-1, 0)
    e_mode = KaiserSquires(len(seen), torch.float32).convergence(shear)
    found = {"the E mode of the shear, 0 where masked,": e_mode}
    theta = simulator.prior.from_white(torch.zeros(len(shear), len(simulator.prior.laws)))
    made = simulator.summaries({"shear": shear, simulator.prior.name: theta})
    return found | {name: maps[:, 0] for name, maps in made.items()}


def of_bands(simulator: LogNormal, maps: Tensor, power: Tensor, slopes: list[Tensor]) -> Tensor:
    """The Fisher matrix of the power of maps in bands, their moments being those of quadratic forms."""
    seen, size = simulator.survey.mask, maps.shape[-1]
    made = maps.double().flatten(1).T  # of shear: (N^2, 2 n)
    k = torch.fft.fftfreq(size, dtype=torch.float64)
    length = (2 * torch.pi * (k[:, None] ** 2 + k**2).sqrt()).flatten()
    edges = logarithmic_edges((size, size), (float(size), float(size)), BANDS)
    band = torch.searchsorted(torch.tensor(edges, dtype=torch.float64), length, side="right") - 1
    kept = band.unique()[band.unique() >= 0]

    def among(square: Tensor) -> Tensor:
        """Of modes, their covariance where the shear has this one, over N^2."""
        of_pixels = (made @ square @ made.T).unflatten(0, (size, size)).unflatten(2, (size, size))
        rows = torch.fft.fft2(of_pixels, dim=(0, 1), norm="ortho")
        return torch.fft.ifft2(rows, dim=(2, 3), norm="ortho").flatten(2).flatten(0, 1)

    def in_bands(values: Tensor) -> Tensor:
        return torch.stack([values[band == one].sum(0) for one in kept.tolist()])

    own = among(covariance(power, seen) + torch.diag(noise(simulator))).abs().square()
    spread = 2.0 * in_bands(in_bands(own).T)
    mean = torch.stack([in_bands(among(covariance(slope, seen)).diagonal().real) for slope in slopes], 1)
    return mean.T @ torch.linalg.solve(spread, mean)


def tell(name: str, information: Tensor, simulator: LogNormal) -> None:
    """Standard deviations that a normal posterior would have without a prior."""
    for label, sd in zip(
        simulator.prior.variable.labels, torch.linalg.inv(information).diagonal().sqrt(), strict=True
    ):
        record(f"standard deviation of white {label} by {name}", float(sd), None)


def main() -> None:
    """Tell what each statistic knows."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--size", type=int, metavar="PIXELS", help="of a smaller patch with as large pixels")
    given = words.parse_args()
    torch.set_num_threads(1)
    config = load_config("standard")
    options = config.simulator.options.model_dump(mode="json")
    options["sources"] |= {"bins": 1}
    options["wiener"] = True
    if given.size:
        options["extent"] *= given.size / options["size"]
        options["size"] = given.size
    simulator = load("simulator", config.simulator.name, **options)
    assert isinstance(simulator, LogNormal)
    seen, n = simulator.survey.mask, options["size"]
    power, slopes = derivatives(simulator)
    inverse = torch.linalg.inv(covariance(power, seen) + torch.diag(noise(simulator)))
    through = [inverse @ covariance(slope, seen) for slope in slopes]
    exact = torch.stack([torch.stack([0.5 * (a * b.T).sum() for b in through]) for a in through])
    record(f"share of {n} x {n} pixels that is seen", float(seen.double().mean()), None)
    tell("all of the unmasked shear", exact, simulator)
    del inverse, through
    for name, maps in maps_of_each_number(simulator).items():
        known = of_bands(simulator, maps, power, slopes)
        lost = 0.5 * float(torch.logdet(exact) - torch.logdet(known))
        record(f"nats that power of {name} in bands loses", lost, None, ideal=0.0)
        tell(f"power of {name} in bands", known, simulator)


if __name__ == "__main__":
    main()
