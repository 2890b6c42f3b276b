"""Training: fresh simulations at every step, or a fixed set of them epoch by epoch, with fresh noise of the
diffusion in either case; Muon on the hidden matrices and AdamW elsewhere.

Step k has its simulations and its noise from (seed, k) alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from sbikit import (
    BEYOND_TRAINING,
    JointDraws,
    Monitor,
    Values,
    Workspace,
    derive_seed,
    generator,
    one_thread,
)
from sbikit.learning import (
    Average,
    BestAverage,
    Duration,
    FixedSet,
    Looks,
    Muon,
    Plan,
    Record,
    SharedDraws,
    Trainer,
    cosine,
    unfinished,
    validation_size,
)
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.diffusion import noise_levels
from sbikit_transformer.field_levels import (
    FIRSTS,
    OBSERVATIONS,
    enough_levels,
    first_level,
    last_level,
)
from sbikit_transformer.held_out_error import HeldOutError
from sbikit_transformer.levels import nothing_is_narrower
from sbikit_transformer.loss import Copies, DenoisingLoss, Endless
from sbikit_transformer.network import Networks, Transformer
from sbikit_transformer.options import (
    TransformerOptions,
    refuse_options_of_a_fixed_set,
    without_effect_on_vectors,
)
from sbikit_transformer.perceptron import Perceptron
from sbikit_transformer.preparation import Preparation, Reading
from sbikit_transformer.scalar_flow import enough_knots
from sbikit_transformer.small_networks import FEW_TIMES, OFTEN
from sbikit_transformer.teaching import fit_law, numbers_of_law

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
# Noisy copies of a simulation's scalars, whose network costs next to nothing without a latent field: noise,
# and not simulations, is what training lacks. On two moons, with a transformer and after 4,000 steps, a
# classifier found the draws in 77 % of the cases with 1 copy, 55 % with 16, 52 % with 64 and 51 % with 256.
_COPIES, _COPIES_BESIDE_FIELD = 32, 8
# Simulations that teach what data tell, for each of the guide's, and the most numbers kept of all of them.
_LAW_SIMULATIONS, _LAW_NUMBERS = 24, 2**31
# Simulations that teach the guide's errors along shapes, and twice those of the guide at most: at 128 pixels
# a side, six parameters and five bins what 99 numbers leave of other simulations is 4 % more than of these.
_SHAPE_SIMULATIONS = 4096
# Simulations that show where draws may end: of wide posteriors they tell the noise that is left to 1 %.
_JUDGES = 256
# Of a fixed set, the share that judges, at most so many of them, and at least so many noisy states of them:
# more tell the loss better, and take time, here a tenth of training's.
_VALIDATION, _MOST_JUDGES, _LEAST_JUDGED = 0.1, 1024, 1024
# Steps between two looks at the validation loss, and looks without a better one after which training ends.
_JUDGE_EVERY, _PATIENCE = 100, 20
# Looks at the error by noise level over a training. Simulations that are seen in one on the way, and in the
# last one, are these shares of those of all steps so far: looks then take 1 to 2 % of the time of training.
_LOOKS, _LOOK_SHARE, _LAST_LOOK_SHARE = 10, 1 / 2400, 1 / 300
# Of them at most, which tell an error to 6 %, and at least; a sixteenth of those that fit the guide between.
_MOST_LOOKED_AT, _LEAST_LOOKED_AT = 512, 16
# Times the loss of the first step, or of networks that know no better than is known without them, which is
# one each, to which the loss may rise. On a toy of a field it rises to 1.5 times the first at 30 times the
# default rate and comes down again, to 300 times at 300 times the rate.
_MOST_RISE = 10.0
_LOG_EVERY = 50  # steps: about ten seconds of the quick preset on two cores
_KEEP_SECONDS = 30.0  # the most that an interruption can lose, beside a round of steps


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
    """Fit the denoiser's constants, guide and law, then train its networks.

    On an endless stream the network is left with its averaged weights, on a fixed set with those that were
    best for the draws that judge.

    Args:
        denoiser: on the CPU; left on `workspace.device`.
        simulations: the training stream, or a fixed set.
        options: how long and how fast.
        seed: fixes first weights, noise, and the order of a fixed set.
        identity: what the checkpoint must have been made by.
        workspace: where the checkpoint of an unfinished training lies, with all that is fitted before.
        monitor: reports.
    """
    network, o = denoiser.network, options
    network.reset(generator(derive_seed(seed, "weights")))
    if denoiser.of_vectors and (idle := without_effect_on_vectors(o)):
        monitor.say(f"diffusion-transformer: of vectors alone {', '.join(idle)} have no effect")
    many = o.copies or (_COPIES if denoiser.guide is None else _COPIES_BESIDE_FIELD)
    together = many if denoiser.of_vectors else 1  # copies are then of other simulations, where all are kept
    kept = fixed_set(simulations, options, seed, monitor, together=together)
    guided_by = o.guide_simulations if kept is None else min(o.guide_simulations, kept.training)
    taught_from, taught_by = _of_law(denoiser, options, guided_by, kept, monitor)
    shared = SharedDraws(simulations, workspace.team)
    if unfinished(workspace) is None:
        read = Reading(denoiser, simulations, monitor, workspace.team)
        before = Preparation(denoiser, read, identity, workspace)
        before.fit_constants(guided_by)
        taught = before.teaching(taught_from, taught_by)
        pace = FEW_TIMES if kept is None else OFTEN
        fit_law(denoiser, taught, monitor, workspace.team, pace=pace)
        workspace.team.agree(denoiser)  # each teaches a share of the guide's errors
        before.fit_shape_errors(taught_from, min(_SHAPE_SIMULATIONS, 2 * guided_by, taught_by))
        if o.sigma_min is not None:  # draws end there, so training goes there
            denoiser.low.clamp_(max=o.sigma_min)
        workspace.team.agree(denoiser)
    denoiser.to(workspace.device)
    denoiser.precision = workspace.precision
    with_field = denoiser.guide is not None
    copies = Copies(many if kept is None else max(1, many * o.batch // kept.rows(0)))
    first = taught_from + taught_by
    networks = 1 + with_field
    draws = Endless(simulations, first=first, batch=o.batch) if kept is None else kept
    loss = DenoisingLoss(denoiser, draws, copies=copies, seed=seed, device=workspace.device)
    looks = None
    if workspace.team.rank == 0:  # which alone logs
        apart = _never_trained(Reading(denoiser, simulations, monitor), kept, options)
        at_once = min(o.batch, workspace.at_once or o.batch)
        error = HeldOutError(denoiser, apart, batch=at_once, seed=seed, device=workspace.device)
        looks = _looks(error, o.batch)
    plan = Plan(
        steps=o.fixed_steps or Duration(60.0 * (o.minutes or 0.0)),
        round=_LOG_EVERY if kept is None else _JUDGE_EVERY,
        clip=_CLIP,
        rate=lambda step, steps: cosine(step, steps, min(_WARM_UP, steps // 10 + 1)),
        simulations=draws.used,
        keep_seconds=_KEEP_SECONDS,
        looks=looks,
        most_loss=lambda first_loss: _MOST_RISE * max(first_loss, networks),
        remedy="lower the option rate",
    )
    final = Average(network, o.ema) if kept is None else best_average(network, kept, loss, copies, options)
    optimisers = make_optimisers(network, o.rate, o.weight_decay)
    trainer = Trainer(network, optimisers, loss, final, plan, whole=denoiser)
    with enough_threads(network, o.batch, copies):
        trainer.run(workspace, monitor, identity)
        denoiser.eval()
        denoiser.precision = torch.float32
        used = draws.used(trainer.steps)
        count = _JUDGES if with_field else OBSERVATIONS
        last = _last(shared, used, o.batch, count)
        judges = last if kept is None else _first(kept.judging(), o.batch, count)
        _choose_levels(denoiser, judges, o, seed, monitor)


def _choose_levels(
    denoiser: Denoiser, judges: Iterable[Values], options: TransformerOptions, seed: int, monitor: Monitor
) -> None:
    """Where draws end, and at how many levels the networks are evaluated on the way there."""
    o, device = options, denoiser.end.device
    denoiser.end[0] = denoiser.scalar_levels().ends()[-1]
    if o.sigma_min is not None:
        denoiser.end.fill_(o.sigma_min)
    if denoiser.guide is None and o.evaluations is not None:
        return
    chunks = [{name: value.to(device) for name, value in drawn.items()} for drawn in judges]
    some = chunks[:OBSERVATIONS]
    shown = {v: torch.cat([chunk[v] for chunk in some])[:OBSERVATIONS] for v in chunks[0]}
    if o.evaluations is None:
        source = generator(derive_seed(seed, "levels of scalars"))
        denoiser.knots.fill_(enough_knots(denoiser, shown, source, monitor, first=o.sigma_max))
    if denoiser.guide is None:
        return
    if o.sigma_min is None:
        _find_end(denoiser, chunks, seed, monitor)
    levels = _levels_of_field(denoiser, shown, o, seed, monitor)
    denoiser.path.copy_(torch.tensor([levels[0], levels[-1], len(levels)], dtype=torch.float64))


def wanted_of_law(options: TransformerOptions) -> int:
    """How many simulations are to teach what data tell."""
    return options.law_simulations or _LAW_SIMULATIONS * options.guide_simulations


def looked_at(options: TransformerOptions) -> int:
    """How many simulations that never train the networks are looked at with."""
    return min(_MOST_LOOKED_AT, max(_LEAST_LOOKED_AT, options.guide_simulations // 16))


def _never_trained(read: Reading, kept: FixedSet | None, options: TransformerOptions) -> Values:
    """Simulations to look at the networks with: far along an endless stream, or those that judge."""
    count = looked_at(options)
    if kept is None:
        parts = list(read("the held-out error", BEYOND_TRAINING, count))
    else:
        parts = list(_first(kept.judging(), options.batch, count))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _looks(error: HeldOutError, batch: int) -> Looks:
    """At the error by noise level, of more simulations the more a training has had."""

    def seeing(share: float) -> Callable[[nn.Module, int], Iterator[Record]]:
        def look(network: nn.Module, step: int) -> Iterator[Record]:
            return error.records(network, max(_LEAST_LOOKED_AT, int(share * step * batch)))

        return look

    return Looks(_LOOKS, seeing(_LOOK_SHARE), seeing(_LAST_LOOK_SHARE))


def _of_law(
    denoiser: Denoiser, options: TransformerOptions, guided_by: int, kept: FixedSet | None, monitor: Monitor
) -> tuple[int, int]:
    """The first simulation that teaches what data tell, and how many do: as many as are wanted, are there and
    fit in memory.
    """
    wanted = guided_by if denoiser.of_vectors else wanted_of_law(options)  # a linear law needs no more
    if kept is not None:
        wanted = kept.training if denoiser.of_vectors else min(wanted, kept.training)
    most = max(1, _LAW_NUMBERS // numbers_of_law(denoiser))
    if most < wanted:
        monitor.say(f"diffusion-transformer: {most:,} of {wanted:,} simulations teach what data tell: memory")
    return (guided_by if kept is None else 0), min(wanted, most)


def fixed_set(
    simulations: JointDraws,
    options: TransformerOptions,
    seed: int,
    monitor: Monitor,
    *,
    together: int = 1,
) -> FixedSet | None:
    """The draws of a fixed set; None of an endless stream.

    Args:
        simulations: all there are.
        options: of the training.
        seed: fixes their order.
        monitor: is told how many they are.
        together: batches in one step, as far as a step has no more than a quarter of the simulations.

    Raises:
        OptionError: an option of a fixed set is given for an endless stream.
    """
    if simulations.size is None:
        refuse_options_of_a_fixed_set(options)
        return None
    count = simulations.size
    fraction = _VALIDATION if options.validation_fraction is None else options.validation_fraction
    judges = min(validation_size(count, fraction), _MOST_JUDGES)
    most = max(1, (count - judges) // (4 * options.batch))
    batch = options.batch * min(together, most)
    kept = FixedSet(simulations, count=count, judges=judges, batch=batch, seed=seed)
    noise = ", with other noise in each epoch" if kept.fresh_noise else ""
    monitor.say(
        f"diffusion-transformer: training on all {count:,} kept simulations{noise}; {judges:,} of them judge"
    )
    return kept


def best_average(
    network: nn.Module, kept: FixedSet, loss: DenoisingLoss, copies: Copies, options: TransformerOptions
) -> BestAverage:
    """The averaged weights, judged by the loss on draws that never train."""
    least = math.ceil(_LEAST_JUDGED / kept.judges)
    seen = Copies(max(copies.scalars, least), max(copies.field, least))
    patience = _PATIENCE if options.patience is None else options.patience

    def judge(averaged: nn.Module) -> float:
        return loss.judged(averaged, kept.judging(), options.batch, seen)

    return BestAverage(network, options.ema, judge, patience)


def enough_threads(networks: Networks, batch: int, copies: Copies) -> AbstractContextManager[None]:
    """One thread for networks and a batch that are too small for more, else as many as there are."""
    numbers = {
        part.numbers * copies.of(name)
        for name, part in networks.named_children()
        if isinstance(part, Transformer | Perceptron)
    }
    return one_thread() if batch * max(numbers) < _LEAST_NUMBERS else nullcontext()


def make_optimisers(network: nn.Module, rate: float, decay: float = 0.0) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for all else."""
    weights = dict(network.named_parameters())
    hidden = [weight for name, weight in weights.items() if _is_hidden(name)]
    other = [weight for name, weight in weights.items() if not _is_hidden(name)]
    return {
        "muon": Muon(hidden, lr=_MUON_RATE * rate, decay=decay / _MUON_RATE),
        "adamw": torch.optim.AdamW(other, lr=rate, betas=_BETAS, weight_decay=decay),
    }


def _is_hidden(name: str) -> bool:
    """Whether a weight is a matrix inside a block."""
    return ".blocks." in name and any(f".{part}.weight" in name for part in ("qkv", "out", "up", "down"))


def _levels_of_field(
    denoiser: Denoiser, simulations: Values, options: TransformerOptions, seed: int, monitor: Monitor
) -> list[float]:
    """Where the field is denoised on the way to a draw."""
    if options.evaluations is not None:
        first = first_level(math.prod(denoiser.grid))
        last = options.sigma_min or last_level(float(denoiser.end[1]))
        return noise_levels(min(first, options.sigma_max), last, options.evaluations)
    firsts = sorted({min(first, options.sigma_max) for first in FIRSTS})
    source = generator(derive_seed(seed, "levels"))
    return enough_levels(denoiser, simulations, source, monitor, firsts=firsts, last=options.sigma_min)


def _find_end(denoiser: Denoiser, chunks: Sequence[Values], seed: int, monitor: Monitor) -> None:
    """The highest level of the field below which data tell nothing more, of chunks of simulations."""
    ends = denoiser.field_levels().ends()
    denoiser.end[1] = ends[-1]
    with monitor.progress("finding where draws end", len(chunks) * (len(ends) - 1)) as advance:

        def heard() -> Iterator[Values]:
            for chunk in chunks:
                yield chunk
                advance(1)

        for end in ends[:-1]:
            left = denoiser.noise_left(heard(), end, generator(derive_seed(seed, "noise left")))
            if nothing_is_narrower(left):
                denoiser.end[1] = end
                return


def _last(simulations: JointDraws, used: int, batch: int, count: int) -> Iterator[Values]:
    """The last training draws, in chunks."""
    for first in range(used - min(count, used), used, batch):
        yield simulations.training(first, min(batch, used - first))


def _first(chunks: Iterable[Values], batch: int, count: int) -> Iterator[Values]:
    """The first of the draws that judge, in chunks."""
    left = count
    for values in chunks:
        for first in range(0, min(left, len(next(iter(values.values())))), batch):
            yield {name: value[:left][first : first + batch] for name, value in values.items()}
        left -= len(next(iter(values.values())))
        if left <= 0:
            return
