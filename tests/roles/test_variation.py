"""Evidence without variation is refused, or what does not vary is left out; nothing passes on constants."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from sbikit import Comparison, Evidence, Field, Spec, SpecError, Vector
from sbikit.roles import report_constants
from sbikit_calibration.coverage.contraction import contraction
from sbikit_calibration.coverage.mira import Mira
from sbikit_calibration.coverage.tarp import Tarp

B, N, M = 40, 32, 64
SPEC = Spec(
    (
        Vector("theta", ("a", "b"), units=("km", ""), latex=("A", "B")),
        Field("f", (3,), channels=2),
        Field("g", (2, 2)),
    ),
    (Vector("x", ("x",)),),
)


def _values(seed: int = 0, scale: float = 1.0, offset: float = 0.0):
    """Truths, data, calibrated draws and training of independent normals that the data do not know."""
    source = torch.Generator().manual_seed(seed)

    def normal(*batch: int):
        return {
            v.name: offset + scale * torch.randn(*batch, *v.shape, generator=source)
            for v in (*SPEC.latents, *SPEC.observables)
        }

    return {"truth": normal(B), "observation": normal(B), "draws": normal(N, B), "training": normal(M)}


def _set(values, part, value, *where):
    for kind in where:
        name, index = part
        tensor = values[kind][name]
        tensor.select(-len(SPEC[name].shape), index).fill_(value)
    return values


def _evidence(values) -> Evidence:
    return Evidence(SPEC, **values)


PARTS = {"theta.b": ("theta", 1), "f.2": ("f", 1), "g": ("g", 0)}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("constant", "words"),
    [
        (("truth", "draws", "training"), "truths do not vary"),
        (("truth",), "truths do not vary"),
        (("draws",), "not the truth"),
    ],
)
def test_constants_are_refused_by_name(part, constant, words) -> None:
    values = _set(_values(), PARTS[part], 3.0, *constant)
    with pytest.raises(SpecError, match=re.escape(f"no variation in '{part}'")) as caught:
        _evidence(values)
    assert words in caught.value.got


def test_draws_that_are_the_truth_are_refused_as_known() -> None:
    values = _values()
    values["draws"]["theta"][..., 0] = values["truth"]["theta"][:, 0]
    with pytest.raises(SpecError, match=r"'theta\.a'") as caught:
        _evidence(values)
    assert "is the truth" in caught.value.got


def test_truths_that_float32_has_rounded_to_a_few_numbers_are_refused() -> None:
    values = _values(offset=2460000.5)
    assert len(values["truth"]["theta"][:, 0].unique()) > 1
    with pytest.raises(SpecError, match="no variation"):
        _evidence(values)


@pytest.mark.parametrize(
    ("scale", "offset"), [(1.0, 0.0), (1e-30, 0.0), (1e30, 0.0), (1.0, 1e4), (1e-9, 1e-5)]
)
def test_what_varies_is_judged_at_any_scale(scale, offset) -> None:
    evidence = _evidence(_values(scale=scale, offset=offset))
    for metric in contraction(evidence):
        # 1 - E[var] / var of 32 draws each and 64 training simulations
        assert metric.value == pytest.approx(0.0, abs=5 * metric.error)
        assert 0 < metric.error < 0.5


def test_discrete_truths_vary() -> None:
    values = _values()
    for kind in ("truth", "draws", "training"):
        values[kind]["theta"] = (values[kind]["theta"] > 0).float()
    _evidence(values)


def test_what_is_constant_is_left_out_and_told() -> None:
    values = _values()
    for part in ("theta.a", "f.1", "g"):
        index = {"theta.a": ("theta", 0), "f.1": ("f", 0), "g": ("g", 0)}[part]
        _set(values, index, 2.0, "truth", "draws", "training")
    evidence, left_out = Evidence.judgeable(spec=SPEC, **values)
    assert evidence is not None
    assert [part.name for part in left_out] == ["theta.a", "f.1", "g"]
    assert evidence.spec.latents == (Vector("theta", ("b",), latex=("B",)), Field("f", (3,)))
    for kind in ("truth", "draws", "training"):
        kept = getattr(evidence, kind)
        assert torch.equal(kept["theta"], values[kind]["theta"][..., 1:])
        assert torch.equal(kept["f"], values[kind]["f"][..., 1:, :])
    report = report_constants(left_out)
    assert [(m.variable, m.verdict) for m in report.metrics] == [(p.name, "none") for p in left_out]
    for validator in (Mira(), Tarp()):
        names = {metric.variable for metric in validator.validate(evidence, seed=0).metrics}
        assert names == {"theta", "theta.b", "f", "joint"}


def test_draws_that_are_a_wrong_constant_fail() -> None:
    _, left_out = Evidence.judgeable(spec=SPEC, **_set(_values(), ("theta", 1), 0.1, "draws"))
    assert [(m.variable, m.verdict) for m in report_constants(left_out).metrics] == [("theta.b", "fail")]


def test_nothing_is_left_where_all_is_constant() -> None:
    values = _values()
    for v in SPEC.latents:
        for index in range(v.shape[0]):
            _set(values, (v.name, index), 1.0, "truth", "draws")
    evidence, left_out = Evidence.judgeable(spec=SPEC, **values)
    assert evidence is None
    assert len(left_out) == 5


def test_exact_draws_without_spread_are_left_out_of_a_comparison() -> None:
    values = _values()
    exact = {v.name: values["draws"][v.name][:, :4].clone() for v in SPEC.latents}
    drawn = {name: value[: N // 2] for name, value in exact.items()}
    exact["theta"] = exact["theta"].clone()
    exact["theta"][..., 1] = 0.3
    comparison = Comparison("exact", (0, 1, 2, 3), exact, drawn)
    with pytest.raises(SpecError, match=r"'theta\.b'"):
        Evidence(SPEC, **values, comparison=comparison)
    evidence, _ = Evidence.judgeable(spec=SPEC, **values, comparison=comparison)
    assert evidence is not None
    assert evidence.comparison is not None
    assert evidence.comparison.exact["theta"].shape == (N, 4, 1)
    assert replace(evidence, comparison=None).draws["theta"].shape == (N, B, 1)
