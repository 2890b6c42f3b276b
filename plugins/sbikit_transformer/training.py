"""Training: fresh simulations at every step, Muon on the hidden matrices and AdamW elsewhere.

Step k draws its simulations and its noise from (seed, k) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property

import torch
from torch import Tensor, nn

from sbikit import JointDraws, Monitor, Workspace, derive_seed, generator, one_thread
from sbikit.learning import Average, Muon, Plan, SharedDraws, Trainer, cosine, unfinished
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.levels import TrainingLevels, nothing_is_narrower
from sbikit_transformer.network import Transformer
from sbikit_transformer.options import TransformerOptions

# Simulations at once for the guide: more need more memory, fewer more calls. No result depends on it.
_CHUNK = 512
# Muon moves a weight by the rate over the root of the width, AdamW by the rate: at the quick preset's width
# of 64 both then move a weight alike. Jordan et al. 2024 use 0.02 beside AdamW's 3e-4 for wider networks.
_MUON_RATE = 10.0
# Of AdamW. Half the usual memory of squared gradients (0.999), whose scale changes with the noise levels of
# a batch; of GPT-3 (arXiv:2005.14165) and most transformers since.
_BETAS = (0.9, 0.95)
# Of GPT-3 too: a larger one lets one batch of rare noise levels undo many steps, a smaller one slows all
# steps.
_CLIP = 1.0
# Steps of warm-up, at most a tenth of all: AdamW's averages of squared gradients, which look back 20 steps,
# have settled by then; more waste steps at a low rate.
_WARM_UP = 100
# Numbers in a layer from which a step is divided among threads. Below, threads wait for each other longer
# than they work: the quick preset, of 141,000, makes 9.9 steps a second on one thread and 9.5 beside a busy
# process; on two that sleep while they wait 6.9 and 7.4, on two that spin 11.9 and 0.1 (benchmarks/busy.py).
# A larger value leaves cores idle.
_LEAST_NUMBERS = 2**18
# Noisy copies of a simulation without a latent field, whose network costs next to nothing: noise, and not
# simulations, is what training lacks. On two moons, after 4,000 steps, a classifier finds the draws in 77 %
# of the cases with 1 copy, 55 % with 16, 52 % with 64 and 51 % with 256.
_COPIES_WITHOUT_FIELD = 32
# Simulations that show where draws may end: of wide posteriors they tell the noise that is left to 1 %.
_JUDGES = 256
_LOG_EVERY = 50  # steps: about ten seconds of the quick preset on two cores
_KEEP_SECONDS = 30.0  # the most that an interruption can lose, beside a round of steps


class DenoisingLoss:
    """Squared error of field and scalars, each in units of the guide's own error, summed 1:1.

    Args:
        denoiser: on `device`, its maps fitted.
        simulations: where steps take their simulations from.
        first: the first simulation of the first step.
        batch: simulations a step.
        copies: noisy copies of each of them.
        seed: fixes the noise.
        device: where to compute.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        simulations: JointDraws,
        *,
        first: int,
        batch: int,
        copies: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self._denoiser, self._simulations, self._device = denoiser, simulations, device
        self._first, self._batch, self._seed = first, batch, seed
        self._copies = copies
        self._noise: tuple[int, Tensor, list[Tensor]] | None = None

    @cached_property
    def _levels(self) -> TrainingLevels:
        """Asked for when the first step is made: a checkpoint may have changed them before."""
        return self._denoiser.training_levels()

    def used(self, step: int) -> int:
        """Simulations used before a step, those of the guide included."""
        return self._first + step * self._batch

    def rows(self, step: int) -> int:
        """Simulations of a step."""
        del step
        return self._batch

    def __call__(self, step: int) -> Tensor:
        """The loss of a step."""
        return self.of(step, 0, self._batch)

    def of(self, step: int, first: int, count: int) -> Tensor:
        """The loss of simulations `first` to `first + count - 1` of a step."""
        values = self._simulations.training(self.used(step) + first, count)
        values = {name: value.to(self._device) for name, value in values.items()}
        with torch.no_grad():
            field, u = self._denoiser.encode(values)
            clean = field.repeat_interleave(self._copies, 0), u.repeat_interleave(self._copies, 0)
            condition = self._denoiser.condition(values).repeat(self._copies)
            rows = slice(first * self._copies, (first + count) * self._copies)
            levels, noises = self._noise_of(step, [part.shape[1:] for part in clean])
            log_sigma = levels[rows].to(self._device)
            noisy = []
            for part, noise in zip(clean, noises, strict=True):
                sigma = log_sigma.exp().view(-1, *[1] * (part.ndim - 1))
                noisy.append(part + sigma * noise[rows].to(self._device))
        found, scale = self._denoiser((noisy[0], noisy[1]), log_sigma, condition)
        total = torch.zeros((), device=self._device)
        for estimate, truth, unit in zip(found, clean, scale, strict=True):
            if truth.shape[1]:
                total = total + ((estimate - truth) / unit).square().mean()
        return total

    def _noise_of(self, step: int, shapes: Sequence[torch.Size]) -> tuple[Tensor, list[Tensor]]:
        """Noise levels of the whole batch of a step, and noise of each shape: any part has the same."""
        if self._noise is None or self._noise[0] != step:
            source = generator(derive_seed(self._seed, "noise", step))
            count = self._batch * self._copies
            levels = self._levels.draw(count, source)
            self._noise = step, levels, [torch.randn(count, *one, generator=source) for one in shapes]
        return self._noise[1:]


def train(
    denoiser: Denoiser,
    simulations: JointDraws,
    options: TransformerOptions,
    *,
    seed: int,
    identity: str,
    workspace: Workspace,
    monitor: Monitor,
) -> None:
    """Fit the denoiser's constants and guide, then train its network, which is left with averaged weights.

    Args:
        denoiser: on the CPU; left on `workspace.device`.
        simulations: the training stream.
        options: how long and how fast.
        seed: fixes first weights and noise.
        identity: what the checkpoint must have been made by.
        workspace: where the checkpoint of an unfinished training lies; it holds constants and guide too.
        monitor: reports.
    """
    network, o = denoiser.network, options
    network.reset(generator(derive_seed(seed, "weights")))
    shared = SharedDraws(simulations, workspace.team)
    if unfinished(workspace) is None:
        _fit_maps(denoiser, shared, o.guide_simulations, monitor)
        if o.sigma_min is not None:  # draws end there, so training goes there
            denoiser.low.clamp_(max=o.sigma_min)
        workspace.team.agree(denoiser)
    denoiser.to(workspace.device)
    denoiser.precision = workspace.precision
    copies = o.copies or (1 if denoiser.field_map.channels else _COPIES_WITHOUT_FIELD)
    loss = DenoisingLoss(
        denoiser,
        simulations,
        first=o.guide_simulations,
        batch=o.batch,
        copies=copies,
        seed=seed,
        device=workspace.device,
    )
    plan = Plan(
        steps=o.steps,
        round=_LOG_EVERY,
        clip=_CLIP,
        rate=lambda step: cosine(step, o.steps, min(_WARM_UP, o.steps // 10 + 1)),
        simulations=loss.used,
        keep_seconds=_KEEP_SECONDS,
    )
    average = Average(network, o.ema)
    trainer = Trainer(network, make_optimisers(network, o.rate), loss, average, plan, whole=denoiser)
    with enough_threads(network, o.batch * copies):
        trainer.run(workspace, monitor, identity)
        denoiser.eval()
        denoiser.precision = torch.float32
        if o.sigma_min is None:
            _find_end(denoiser, shared, loss.used(o.steps), seed, o.batch)
        else:
            denoiser.end.fill_(o.sigma_min)


def enough_threads(network: Transformer, rows: int) -> AbstractContextManager[None]:
    """One thread for a network and a batch that are too small for more, else as many as there are."""
    few = rows * network.position.numel() < _LEAST_NUMBERS
    return one_thread() if few else nullcontext()


def make_optimisers(network: nn.Module, rate: float) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for all else."""
    weights = dict(network.named_parameters())
    hidden = [weight for name, weight in weights.items() if _is_hidden(name)]
    other = [weight for name, weight in weights.items() if not _is_hidden(name)]
    return {
        "muon": Muon(hidden, lr=_MUON_RATE * rate),
        "adamw": torch.optim.AdamW(other, lr=rate, betas=_BETAS, weight_decay=0.0),
    }


def _is_hidden(name: str) -> bool:
    """Whether a weight is a matrix inside a block."""
    return name.startswith("blocks.") and any(
        f".{part}.weight" in name for part in ("qkv", "out", "up", "down")
    )


def _find_end(denoiser: Denoiser, simulations: JointDraws, used: int, seed: int, batch: int) -> None:
    """Where draws end: the highest level below which data tell nothing more, of the last training draws."""
    ends = denoiser.training_levels().ends()
    denoiser.end.fill_(ends[-1])
    count = min(_JUDGES, used)
    device = denoiser.end.device
    chunks = []
    for first in range(used - count, used, batch) if len(ends) > 1 else ():
        drawn = simulations.training(first, min(batch, used - first))
        chunks.append({name: value.to(device) for name, value in drawn.items()})
    for end in ends[:-1]:
        source = generator(derive_seed(seed, "noise left"))
        left = []
        for values in chunks:
            noise = [torch.randn(part.shape, generator=source).to(device) for part in denoiser.encode(values)]
            left.append(denoiser.noise_left(values, end, (noise[0], noise[1])))
        if nothing_is_narrower(torch.stack(left).mean(0)):
            denoiser.end.fill_(end)
            return


def _fit_maps(denoiser: Denoiser, simulations: JointDraws, count: int, monitor: Monitor) -> None:
    parts = []
    with monitor.progress("simulating for the Gaussian guide", count) as advance:
        for first in range(0, count, _CHUNK):
            parts.append(simulations.training(first, min(_CHUNK, count - first)))
            advance(min(_CHUNK, count - first))
    denoiser.fit_maps({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
