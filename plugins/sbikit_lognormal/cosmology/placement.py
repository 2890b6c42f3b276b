"""Values and laws of single parameters, sorted into fixed and free ones."""

from __future__ import annotations

from dataclasses import dataclass

from sbikit import Law, OptionError
from sbikit_lognormal.options import Nuisance, PerBin, per_bin


@dataclass
class Placement:
    """Laws of free parameters and values of fixed ones, taken up one by one.

    Args:
        laws: of the free parameters, in the order of the parameter vector.
        fixed: values of the others.
    """

    laws: dict[str, Law]
    fixed: dict[str, float]

    def place(self, name: str, option: str, given: Nuisance, limits: tuple[float, float]) -> None:
        """Take one up.

        Raises:
            OptionError: its value, or what its law reaches to, leaves the limits.
        """
        reach = (given, given) if isinstance(given, (int, float)) else given.reach()
        if not limits[0] <= reach[0] <= reach[1] <= limits[1]:
            raise OptionError(
                f"The values of {name} leave what the simulator is made for.",
                where=f"simulator.{option}",
                expected=f"{limits[0]:g} to {limits[1]:g}",
                got=f"{reach[0]:g} to {reach[1]:g}",
                fix="narrow them",
            )
        if isinstance(given, (int, float)):
            self.fixed[name] = float(given)
        else:
            self.laws[name] = given.law(limits)

    def place_bins(
        self, name: str, option: str, given: PerBin, bins: int, limits: tuple[float, float]
    ) -> None:
        """Take up one a bin.

        Raises:
            OptionError: there are not as many as bins, or as in `place`.
        """
        each: tuple[Nuisance, ...] = per_bin(option, given, bins)
        for index, one in enumerate(each):
            self.place(f"{name}_{index + 1}", option, one, limits)
