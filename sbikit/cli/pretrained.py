"""Weights that ship with a plug-in: what is known of them, and the posterior of new data by them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sbikit.cli.new_data import NewData
from sbikit.cli.terminal import console, put, tell
from sbikit.cli.verdicts import show_verdicts


def checked_weights(
    name: str | None, folder: Path | None, observation: Path | None, of_folders: Mapping[str, object]
) -> tuple[str, Path]:
    """Name of the weights and file with the new data, where these and nothing else are given.

    Args:
        name: of the weights.
        folder: the run folder.
        observation: file with new data.
        of_folders: options that go with a run folder alone -> what was given.

    Raises:
        OptionError: one of the two is missing, or something does not go with them.
        PluginError: there are no weights of this name, or two.
    """
    from sbikit.plugins.registry import find_pretrained
    from sbikit.problem.errors import OptionError

    if name is None:
        raise OptionError(
            "Nothing says which posterior to draw.",
            where="sample",
            expected="a run folder, DIR, or --pretrained NAME",
            fix="sbikit sample DIR, or sbikit sample --pretrained NAME --observation FILE",
        )
    if folder is not None:
        raise OptionError(
            "A run folder and pretrained weights are both given.",
            where=f"{folder}, --pretrained {name}",
            expected="one of them",
            fix="leave one out",
        )
    odd = [option for option, given in of_folders.items() if given]
    if odd:
        raise OptionError(
            "That is of a run folder, and pretrained weights have none.",
            where=", ".join(odd),
            expected="--observation, --draws, --given, --out, --device and --precision beside --pretrained",
            fix="leave it out, or train in a run folder of your own: `sbikit run`",
        )
    find_pretrained(name)
    if observation is None:
        raise OptionError(
            "Pretrained weights draw the posterior of new data, and none are given.",
            where=f"--pretrained {name}",
            expected="--observation FILE beside it",
            fix="add a netCDF or .npy file with the observed variables: --observation FILE",
        )
    return name, observation


def sample_pretrained(name: str, asked: NewData, *, device: str | None, precision: str | None) -> None:
    """Draw new data's posterior; say how the weights were judged, and whether they know such data.

    Args:
        name: of the weights.
        asked: what is drawn, and where it goes; in the working directory where left out.
        device: where networks run; a GPU where there is one, where left out.
        precision: of products inside networks; float32 where left out.
    """
    from sbikit.roles.trust import distrust
    from sbikit.runs.console_monitor import ConsoleMonitor
    from sbikit.runs.devices import Devices, choose_device
    from sbikit.runs.familiar import Wary
    from sbikit.runs.job import Run
    from sbikit.runs.new_data import wary
    from sbikit.runs.pretrained import open_pretrained

    shipped = open_pretrained(name)
    target = asked.target(Path(), "posterior")
    monitor = ConsoleMonitor(console(stderr=True))
    monitor.say(shipped.origin())
    monitor.say(f"{shipped.verdicts()}; `sbikit plugins show {name}` lists them")
    products = Devices(precision=precision or "float32")
    job = Run(shipped.folder, monitor, choose_device(device or "auto"), devices=products)
    sampler, by = wary(job), job.config.estimator.name
    trust = asked.sample(job, sampler, by, target)
    doubts = distrust(trust)
    for line in doubts:
        tell(line)
    if isinstance(sampler, Wary) and not doubts:
        which = "the observation" if len(trust) == 1 else f"the {len(trust)} observations"
        monitor.say(f"Nothing about {which} is unlike the training simulations.")
    put(f"posterior: {target}")


def show_pretrained(name: str) -> None:
    """Print what is known of weights: origin, configuration, and every figure of their validators."""
    from sbikit.plugins.registry import find_pretrained
    from sbikit.runs.pretrained import open_shipped

    found = find_pretrained(name)
    shipped = open_shipped(found.pretrained)
    put(f"pretrained {name}: {found.pretrained.summary}; {found.distribution} {found.version}")
    put(shipped.origin())
    put(f"configuration: {shipped.folder.path / 'run.yaml'}")
    show_verdicts(shipped.folder.metrics, whole=True)
    put(shipped.verdicts())
