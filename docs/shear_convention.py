"""Draws docs/images/shear.png: the shear around a mass in the convention of the lensing simulator.

python docs/shear_convention.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray

from sbikit_lognormal.survey import KaiserSquires

Array = NDArray[np.float64]

SIZE = 65
ROW, COLUMN = 38, 24  # of the mass
TARGET = Path(__file__).parent / "images" / "shear.png"


def sticks(axes: Axes, x: Array, y: Array, shear: Array, length: float) -> None:
    """Sticks along which images are stretched.

    Args:
        axes: where to draw.
        x: places (n,).
        y: places (n,).
        shear: gamma_1 and gamma_2, (2, n).
        length: of all sticks.
    """
    angle = 0.5 * np.arctan2(shear[1], shear[0])
    dx, dy = 0.5 * length * np.cos(angle), 0.5 * length * np.sin(angle)
    axes.plot([x - dx, x + dx], [y - dy, y + dy], color="#c2410c", lw=2.2, solid_capstyle="round")


def mass(axes: Axes) -> None:
    """A mass and the shear on two rings around it."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    kappa = np.exp(-0.5 * ((columns - COLUMN) ** 2 + (rows - ROW) ** 2) / 4.0**2)
    shear = KaiserSquires(SIZE, torch.float64).shear(torch.from_numpy(kappa)).numpy()
    axes.imshow(kappa, origin="lower", cmap="Blues", vmax=1.4)
    for radius in (10, 17, 24):
        angles = np.linspace(0.0, 2.0 * np.pi, 16, endpoint=False)
        x = np.rint(COLUMN + radius * np.cos(angles)).astype(int)
        y = np.rint(ROW + radius * np.sin(angles)).astype(int)
        sticks(axes, x.astype(float), y.astype(float), shear[:, y, x], 0.27 * radius)
    axes.set_title("a mass: kappa[row, column] and sticks of shear", fontsize=9)
    axes.set_xlabel("x: column, the last axis (West)")
    axes.set_ylabel("y: row (North)")


def key(axes: Axes) -> None:
    """What the signs mean."""
    signs = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])
    names = (r"$\gamma_1 > 0$", r"$\gamma_1 < 0$", r"$\gamma_2 > 0$", r"$\gamma_2 < 0$")
    y = np.array([3.0, 2.0, 1.0, 0.0])
    sticks(axes, np.zeros(4), y, signs, 0.62)
    for name, at in zip(names, y, strict=True):
        axes.text(0.55, at, name, va="center", fontsize=11)
    axes.set(xlim=(-0.5, 1.5), ylim=(-0.6, 3.6), aspect="equal")
    axes.axis("off")


def main() -> None:
    """Draw and save."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(6.4, 4.2), width_ratios=(3, 1), layout="constrained", dpi=110
    )
    mass(left)
    key(right)
    figure.savefig(TARGET)


if __name__ == "__main__":
    main()
