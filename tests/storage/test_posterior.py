import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from example_run import problem, write_example_run

from sbikit.problem.errors import ObservationError, RunFolderError, SpecError
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Field, Vector
from sbikit.roles.trust import Reading, Trust
from sbikit.storage.observation import read_observation
from sbikit.storage.read import read_posterior
from sbikit.storage.write import write_posterior

GRIDS = [((16,), (3.0,)), ((8, 12), (4.0, 6.0)), ((4, 5, 6), (1.0, 2.0, 3.0))]


def values(spec_variables, *batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {v.name: torch.randn(*batch, *v.shape, generator=generator) for v in spec_variables}


def small(grid=(8, 12), extent=(4.0, 6.0)):
    theta = Vector("theta", ("a", "b"), units=("", "Mpc/h"), latex=(r"\alpha", r"\beta"))
    kappa = Field("kappa", grid, 2, extent, unit="mK", extent_unit="deg", latex=r"\kappa", stationary=True)
    return Spec(
        (theta, kappa),
        (Field("shear", grid, 2, extent, extent_unit="deg", periodic=True), Vector("n", ("z",))),
    )


def everything(spec):
    latents, seen = spec.latents, spec.observables
    return {
        "spec": spec,
        "posterior": values(latents, 7),
        "observed": values(seen, seed=1),
        "summaries": {
            "kappa_ks": torch.randn(2, *spec["kappa"].shape[1:], generator=torch.Generator()),
            "forms": torch.tensor([1.0, -2.0]),
        },
        "summarised": (
            replace(spec["kappa"], name="kappa_ks", latex=r"\kappa^{\mathrm{KS}}", estimates="kappa"),
            Vector("forms", ("q_1", "q_2")),
        ),
        "truth": values(latents, seed=2),
        "reference": values(latents, 9, seed=3),
        "calibration_draws": values(latents, 5, 3, seed=4),
        "calibration_truth": values(latents, 3, seed=5),
        "calibration_observed": values(seen, 3, seed=6),
    }


def same(arrays, tensors):
    assert list(arrays) == list(tensors)
    for name, array in arrays.items():
        assert np.asarray(array).dtype == np.float32
        np.testing.assert_array_equal(array, tensors[name].numpy())


@pytest.mark.parametrize(("grid", "extent"), GRIDS)
def test_everything_comes_back_exactly(tmp_path, grid, extent):
    spec = small(grid, extent)
    given = everything(spec)
    write_posterior(tmp_path / "posterior.nc", **given)
    found = read_posterior(tmp_path / "posterior.nc")
    assert found.spec == spec
    same(found.posterior, given["posterior"])
    same(found.observed, given["observed"])
    same(found.summaries, given["summaries"])
    same(found.truth, given["truth"])
    same(found.reference, given["reference"])
    same(found.held_out.draws, given["calibration_draws"])
    same(found.held_out.truth, given["calibration_truth"])
    same(found.held_out.observed, given["calibration_observed"])
    ks, forms = found.summarised
    assert forms == Vector("forms", ("q_1", "q_2"))
    assert ks.estimates == "kappa"
    assert (ks.shape, ks.extent, ks.latex) == ((2, *grid), extent, r"\kappa^{\mathrm{KS}}")
    assert [p.name for p in tmp_path.iterdir()] == ["posterior.nc"]


def test_only_what_is_given_is_there(tmp_path):
    given = everything(small())
    write_posterior(
        tmp_path / "p.nc", spec=given["spec"], posterior=given["posterior"], observed=given["observed"]
    )
    found = read_posterior(tmp_path / "p.nc")
    assert (found.truth, found.reference, found.held_out, found.summaries) == (None, None, None, {})


def test_only_the_latents_of_the_spec_are_kept(tmp_path):
    given = everything(small())
    spec = given["spec"].select("theta")
    write_posterior(tmp_path / "p.nc", **{**given, "spec": spec, "summaries": None, "summarised": ()})
    assert list(read_posterior(tmp_path / "p.nc").posterior) == ["theta"]


def test_xarray_reads_the_file_without_us(tmp_path):
    write_posterior(tmp_path / "p.nc", **everything(small()))
    with xr.open_datatree(tmp_path / "p.nc", engine="h5netcdf") as tree:
        kappa = tree["posterior"]["kappa"]
        assert kappa.dims == ("chain", "draw", "kappa_channel", "kappa_y", "kappa_x")
        assert kappa.attrs["kind"] == "field"
        assert float(kappa.kappa_x[0]) == 0.25
        assert float(tree["posterior"]["theta"].sel(theta_dim="b").isel(chain=0, draw=0)) == pytest.approx(
            float(values(small().latents, 7)["theta"][0, 1])
        )
        assert tree["calibration_posterior"]["theta"].dims == ("chain", "draw", "observation", "theta_dim")


def test_what_the_sampler_says_of_its_draws_is_kept(tmp_path):
    given = everything(small())
    trust = Trust(False, (Reading("R-hat", 1.5, 1.01), Reading("ESS", float("nan"))), ("R-hat",))
    write_posterior(
        tmp_path / "p.nc",
        spec=given["spec"],
        posterior=given["posterior"],
        observed=given["observed"],
        sampler="hmc",
        trust=trust,
    )
    with xr.open_datatree(tmp_path / "p.nc", engine="h5netcdf") as tree:
        kept = tree["posterior"].attrs
    assert kept["sampler"] == "hmc"
    assert json.loads(kept["trust"]) == json.loads(json.dumps(trust.record()))
    found = read_posterior(tmp_path / "p.nc")
    assert (found.sampler, found.trust) == ("hmc", trust)
    same(found.posterior, given["posterior"])


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path, given = tmp_path / "p.nc", everything(small())
    write_posterior(path, **given)
    before = path.read_bytes()
    spoiled = {name: value.clone() for name, value in given["posterior"].items()}
    spoiled["kappa"][3, 0, 0] = float("nan")
    with pytest.raises(SpecError, match="not finite"):
        write_posterior(path, **{**given, "posterior": spoiled})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"calibration_truth": None}, "needs draws, truths and observations"),
        ({"truth": {"theta": torch.zeros(2)}}, "missing"),
        ({"reference": {"theta": torch.zeros(4, 2), "kappa": torch.zeros(4, 2, 8, 11)}}, "wrong shape"),
        ({"posterior": {"theta": torch.zeros(0, 2), "kappa": torch.zeros(0, 2, 8, 12)}}, "wrong shape"),
        ({"calibration_truth": values(small().latents, 4)}, "wrong shape"),
        ({"summaries": {"total": torch.zeros(3)}}, "not those that are declared"),
        ({"summarised": ()}, "not those that are declared"),
    ],
)
def test_values_that_do_not_fit_are_refused(tmp_path, change, message):
    with pytest.raises(SpecError, match=message):
        write_posterior(tmp_path / "p.nc", **{**everything(small()), **change})
    assert not list(tmp_path.iterdir())


# --- the alarm rings ------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    write_posterior(tmp_path / "posterior.nc", **everything(small()))
    return tmp_path / "posterior.nc"


def refused(path, *words):
    with pytest.raises(RunFolderError) as caught:
        read_posterior(path)
    error = caught.value
    assert error.where == str(path)
    assert error.expected
    assert error.got
    assert error.fix
    for word in words:
        assert word in str(error)


def test_a_missing_file_is_refused(tmp_path):
    refused(tmp_path / "posterior.nc", "no such file")


@pytest.mark.parametrize("kept", [0, 10, 1000, 0.5, 0.99])
def test_a_truncated_file_is_refused(path, kept):
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    refused(path, "cannot be read")


def test_a_flipped_bit_is_refused(path):
    import h5py

    with h5py.File(path) as file:
        chunk = file["posterior/kappa"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 4
    path.write_bytes(content)
    refused(path, "cannot be read")


def test_text_is_refused(path):
    path.write_text("not a netCDF file")
    refused(path, "cannot be read")


@pytest.mark.parametrize("group", ["posterior", "observed_data", "calibration_truth"])
def test_a_missing_group_is_refused(path, group):
    import h5py

    with h5py.File(path, "a") as file:
        del file[group]
    refused(path, group)


@pytest.mark.parametrize("group", ["truth", "reference", "calibration_posterior"])
def test_a_missing_variable_is_refused(path, group):
    import h5py

    with h5py.File(path, "a") as file:
        del file[group]["kappa"]
    refused(path, group, "kappa")


def test_a_missing_description_is_refused(path):
    import h5py

    with h5py.File(path, "a") as file:
        del file["posterior/theta"].attrs["labels"]
    refused(path, "theta", "labels")


def test_values_that_are_not_finite_are_refused(path):
    import h5py

    with h5py.File(path, "a") as file:
        file["reference/theta"][0, 2, 1] = np.nan
    refused(path, "reference", "theta", "not finite")


def test_nothing_is_pickled(path):
    assert path.read_bytes()[:8] == b"\x89HDF\r\n\x1a\n"
    assert b"pickle" not in path.read_bytes()


# --- a user's observation -------------------------------------------------------------------


def dataset(spec, **changes):
    data = {v.name: np.asarray(changes.get(v.name, np.ones(v.shape))) for v in spec.observables}
    return xr.Dataset({n: ([f"{n}{i}" for i in range(a.ndim)], a) for n, a in data.items()})


@pytest.mark.parametrize("group", [None, "observed_data", "deeper/down"])
def test_an_observation_is_read_from_any_group(tmp_path, group):
    spec, path = small(), tmp_path / "obs.nc"
    shear = np.random.default_rng(0).normal(size=spec["shear"].shape)
    dataset(spec, shear=shear[None]).to_netcdf(path, group=group, engine="h5netcdf")
    found = read_observation(path, spec)
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "shear": (1, 2, 8, 12),
        "n": (1, 1),
    }
    assert found["shear"].dtype == torch.float32
    np.testing.assert_allclose(found["shear"][0].numpy(), shear, rtol=1e-6)


def test_many_observations_are_read_with_one_more_axis(tmp_path):
    spec, path = small(), tmp_path / "obs.nc"
    shear, n = np.random.default_rng(0).normal(size=(3, *spec["shear"].shape)), np.arange(3.0)[:, None]
    dataset(spec, shear=shear[None], n=n).to_netcdf(path, engine="h5netcdf")
    found = read_observation(path, spec)
    np.testing.assert_allclose(found["shear"].numpy(), shear, rtol=1e-6)
    np.testing.assert_array_equal(found["n"].numpy(), n)


def test_an_observation_is_read_from_netcdf_3(tmp_path):
    dataset(small()).to_netcdf(tmp_path / "obs.nc", engine="scipy")
    assert read_observation(tmp_path / "obs.nc", small())["shear"].shape == (1, 2, 8, 12)


def test_a_posterior_file_is_an_observation(path):
    found = read_observation(path, small())
    np.testing.assert_array_equal(found["shear"][0].numpy(), read_posterior(path).observed["shear"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shear": np.ones((2, 12, 8))}, ["shape", "(2, 8, 12)", "(2, 12, 8)"]),
        ({"shear": np.ones((3, 2, 8, 12))}, ["same observations", "shear: 3, n: 1"]),
        ({"shear": np.ones((2, 3, 2, 8, 12))}, ["shape"]),
        ({"shear": np.ones((0, 2, 8, 12))}, ["shape"]),
        ({"shear": np.ones(12)}, ["shape"]),
        ({"shear": np.full((2, 8, 12), np.nan)}, ["not finite", "192"]),
        ({"shear": np.full((2, 8, 12), 1e300)}, ["not finite"]),
        ({"shear": np.full((2, 8, 12), "a")}, ["not finite"]),
    ],
)
def test_an_observation_that_does_not_fit_is_refused(tmp_path, changes, words):
    dataset(small(), **changes).to_netcdf(tmp_path / "obs.nc", engine="h5netcdf")
    with pytest.raises(ObservationError) as caught:
        read_observation(tmp_path / "obs.nc", small())
    assert caught.value.expected
    assert all(word in str(caught.value) for word in words)


def one_observable():
    return Spec(small().latents, small().observables[:1])


def test_an_observation_of_one_variable_is_read_from_a_numpy_file(tmp_path):
    shear = np.random.default_rng(0).normal(size=(1, 2, 8, 12))
    np.save(tmp_path / "obs.npy", shear)
    found = read_observation(tmp_path / "obs.npy", one_observable())
    assert list(found) == ["shear"]
    np.testing.assert_allclose(found["shear"].numpy(), shear, rtol=1e-6)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((2, 12, 8)), ["wrong shape", "(2, 8, 12)", "(2, 12, 8)"]),
        (np.full((2, 8, 12), np.nan), ["not finite", "192"]),
        (np.full((2, 8, 12), "a"), ["not finite"]),
        (np.array([{}], dtype=object), ["cannot be read"]),
        (None, ["cannot be read"]),
    ],
)
def test_a_numpy_file_that_does_not_fit_is_refused(tmp_path, array, words):
    path = tmp_path / "obs.npy"
    np.save(path, array) if array is not None else path.write_bytes(b"\x93NUMPY and no more")
    with pytest.raises(ObservationError) as caught:
        read_observation(path, one_observable())
    assert caught.value.where == str(path)
    assert caught.value.expected
    assert all(word in str(caught.value) for word in words)


def test_a_numpy_file_is_refused_where_two_variables_are_observed(tmp_path):
    np.save(tmp_path / "obs.npy", np.ones((2, 8, 12)))
    with pytest.raises(ObservationError, match="2 observables are wanted") as caught:
        read_observation(tmp_path / "obs.npy", small())
    assert caught.value.expected == "shear, n"


def test_a_missing_observable_is_named(tmp_path):
    dataset(small()).drop_vars("shear").to_netcdf(tmp_path / "obs.nc", engine="h5netcdf")
    with pytest.raises(ObservationError, match="'shear' is missing"):
        read_observation(tmp_path / "obs.nc", small())


def test_an_observable_in_two_groups_is_refused(tmp_path):
    for group in ("a", "b"):
        dataset(small()).to_netcdf(tmp_path / "obs.nc", group=group, mode="a", engine="h5netcdf")
    with pytest.raises(ObservationError, match="2 groups"):
        read_observation(tmp_path / "obs.nc", small())


@pytest.mark.parametrize("content", [None, b"", b"CDF\x01 and no more", b"text"])
def test_an_observation_that_is_no_netcdf_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "obs.nc").write_bytes(content)
    with pytest.raises(ObservationError) as caught:
        read_observation(tmp_path / "obs.nc", small())
    assert caught.value.where == str(tmp_path / "obs.nc")


def test_the_example_run_is_readable(tmp_path):
    found = read_posterior(write_example_run(tmp_path, draws=8, observations=2) / "posterior.nc")
    assert found.spec == problem()
    assert replace(found.spec) == found.spec
