"""The networks, built by sbi: a neural spline flow, or a vector field.

Durkan et al. 2019 (arXiv:1906.04032), autoregressive, in zuko's implementation: its splines reach to
5 prior standard deviations on either side, and its state is a plain dictionary of tensors.
"""

from __future__ import annotations

import random
import warnings
from typing import Any

import torch

from sbikit import PluginError
from sbikit_npe.embedding import Embedding
from sbikit_npe.vector_field import Method, VectorField


def build_flow(
    embedding: Embedding,
    *,
    row: int,
    size: int,
    transforms: int,
    hidden: int,
    layers: int,
    bins: int,
    seed: int,
) -> Any:
    """A flow over `size` coordinates given rows of `row` numbers, on the CPU.

    Args:
        embedding: rows (B, row) to contexts.
        row: length of a row.
        size: number of coordinates.
        transforms: number of spline transforms.
        hidden: width of the nets that make the splines' knots.
        layers: depth of those nets.
        bins: bins of each spline.
        seed: fixes the flow's initial weights.

    Returns:
        sbi's `ConditionalDensityEstimator`.

    Raises:
        PluginError: sbi is not installed.
    """
    posterior_nn = load_posterior_nn()
    build = posterior_nn(
        model="zuko_nsf",
        z_score_theta="none",
        z_score_x="none",
        hidden_features=[hidden] * layers,
        num_transforms=transforms,
        num_bins=bins,
        embedding_net=embedding,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build(torch.zeros(2, size), torch.zeros(2, row))


def build_vector_field(
    embedding: Embedding,
    *,
    row: int,
    size: int,
    method: Method,
    width: int,
    layers: int,
    steps: int,
    seed: int,
) -> VectorField:
    """A vector field over `size` coordinates given rows of `row` numbers, on the CPU.

    Args:
        embedding: rows (B, row) to contexts.
        row: length of a row.
        size: number of coordinates.
        method: what it is trained by.
        width: of its network.
        layers: depth of it.
        steps: of the solver.
        seed: fixes its initial weights.

    Raises:
        PluginError: sbi is not installed.
    """
    load_posterior_nn()
    from sbi.neural_nets import posterior_flow_nn

    build = posterior_flow_nn(
        model="ada_mlp",
        z_score_theta="none",
        z_score_x="none",
        hidden_features=width,
        num_layers=layers,
        embedding_net=embedding,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return VectorField(build(torch.zeros(2, size), torch.zeros(2, row)), method, steps)


def load_posterior_nn() -> Any:
    """sbi's builder of density estimators.

    Importing sbi draws from the global state of `random`, which is put back.

    Raises:
        PluginError: sbi is not installed.
    """
    state = random.getstate()
    try:
        with warnings.catch_warnings():
            # In a notebook tqdm, which sbi imports, misses what it would draw bars with.
            warnings.filterwarnings("ignore", "IProgress not found")
            from sbi.neural_nets import posterior_nn
    except ImportError as error:
        raise PluginError(
            f"The estimator 'npe' needs sbi, which cannot be imported: {error}",
            where="sbikit_npe",
            fix="pip install 'sbikit[npe]'",
        ) from error
    finally:
        random.setstate(state)
    return posterior_nn
