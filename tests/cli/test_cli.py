"""The command line as a user meets it: exit status, what is printed, and that help costs nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from toybox import install, offering
from typer.testing import CliRunner

from sbikit.cli import app
from sbikit.cli.verdicts import show_verdicts
from sbikit.roles.validator import Metric, Report, Verdict
from sbikit.runs import work
from sbikit.runs.config import read_config
from sbikit.runs.job import Run
from sbikit.storage.metrics import write_metrics

CHOSEN = ["--sim", "toy", "--estimator", "toy-linear", "--validator", "toy-mean"]
SMALL = [
    f"--set=sampling.{key}" for key in ("observations=40", "draws=8", "shown_draws=50", "reference_draws=30")
]


def call(*words: str | Path) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


def environment(site: Path) -> dict[str, str]:
    paths = [str(site), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def quick(toys: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Toys whose report is a stand-in."""

    def report(run: Run) -> list[Path]:
        (run.folder.path / "report.html").write_text("a report")
        return [run.folder.path / "report.html"]

    monkeypatch.setattr(work, "report", report)
    monkeypatch.chdir(toys.parent)
    return toys.parent


# --- help -----------------------------------------------------------------------------------

HEAVY = ("torch", "zarr", "distributed", "camb", "glass", "sbi", "nutpie", "matplotlib", "xarray", "scipy")


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["run", "--help"],
        ["--version"],
        ["plugins"],
        ["plugins", "--json"],
        ["plugins", "--help"],
        *(["plugins", "show", name] for name in ("lognormal", "diffusion-transformer", "hmc", "agreement")),
        ["config", "show"],
        ["config", "show", "--reference", "nuts", "--estimator", "npe"],
        ["config", "schema"],
    ],
)
def test_what_only_tells_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys, sbikit.cli\n"
        f"sys.argv = ['sbikit', *{words!r}]\n"
        "try:\n    sbikit.cli.main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "HEAVY []"


def test_python_m_is_the_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "sbikit", "--help"], capture_output=True, text=True, check=True
    )
    for word in ("run", "simulate", "fit", "sample", "validate", "report", "plugins", "config"):
        assert f" {word} " in result.stdout


# --- a run ----------------------------------------------------------------------------------


def test_a_run_prints_verdicts_and_where_the_report_is(quick: Path) -> None:
    status, out, err = call("run", *CHOSEN, *SMALL, "--reference", "toy-exact")
    assert status == 0, err
    assert "toy-mean" in out
    assert "toy-agreement" in out
    assert "floor" in out.splitlines()[0]
    assert "pass" in out
    assert out.splitlines()[-1] == "report: runs/toy-toy-linear-seed0/report.html"
    assert "fit: done in" in err
    status, _, err = call("run", *CHOSEN, *SMALL, "--reference", "toy-exact")
    assert status == 0
    assert "fit: done before" in err
    status, _, err = call("run", *CHOSEN, *SMALL, "--out", "runs/toy-toy-linear-seed0")
    assert status == 2
    assert "reference: toy-exact there, null asked for" in err


def test_stages_on_a_folder_that_holds_only_a_configuration(quick: Path) -> None:
    _, text, _ = call("config", "show", *CHOSEN, *SMALL)
    Path("mine").mkdir()
    Path("mine/run.yaml").write_text(text)
    status, _, err = call("validate", "mine")
    assert (status, "comes after 'sample'" in err) == (2, True)
    for stage in ("simulate", "fit", "sample", "validate", "report"):
        status, out, err = call(stage, "mine")
        assert status == 0, err
    assert out.strip() == "report: mine/report.html"


def test_sampling_new_data(quick: Path) -> None:
    xarray = pytest.importorskip("xarray")
    xarray.Dataset({"x": ("n", [1.0, 2.0, 3.0])}).to_netcdf("obs.nc", engine="h5netcdf")
    assert call("run", *CHOSEN, *SMALL, "--out", "a")[0] == 0
    status, out, err = call("sample", "a", "--observation", "obs.nc", "--draws", 20)
    assert (status, out.strip()) == (0, "posterior: a/obs-posterior.nc"), err
    assert Path("a/obs-posterior.nc").is_file()
    status, _, err = call("sample", "a", "--observation", "absent.nc")
    assert (status, "absent.nc" in err) == (2, True)


def test_new_data_from_the_reference_of_a_folder_that_never_ran(quick: Path) -> None:
    numpy = pytest.importorskip("numpy")
    numpy.save("obs.npy", [1.0, 2.0, 3.0])
    assert call("init", "a", *CHOSEN, "--reference", "toy-chains")[:2] == (0, "run folder: a\n")
    assert {path.name for path in Path("a").iterdir()} == {"run.yaml"}
    words = ("--observation", "obs.npy", "--reference", "--draws", 20)
    status, out, err = call("sample", "a", *words)
    assert (status, out.strip()) == (0, "posterior: a/obs-toy-chains.nc"), err
    assert "toy-chains: R-hat 1 (wanted at most 1.1), steps 7" in err
    assert "NOT A REFERENCE" not in err
    assert call("init", "b", *CHOSEN, "--reference", "toy-chains", "--set", "reference.doubtful=4")[0] == 0
    status, out, err = call("sample", "b", *words, "--out", "mine.nc")
    assert (status, out.strip()) == (0, "posterior: mine.nc"), err
    assert "toy-chains: R-hat 1.2 (wanted at most 1.1), steps 7" in err
    assert "NOT A REFERENCE: toy-chains itself says" in err
    assert "NOT A REFERENCE" in Path("b/run.log").read_text()
    assert call("init", "c", *CHOSEN)[0] == 0
    status, _, err = call("sample", "c", *words)
    assert (status, "no reference sampler" in err, "sbikit init DIR --reference NAME" in err) == (
        2,
        True,
        True,
    )
    status, _, err = call("sample", "a", "--reference")
    assert (status, "--observation FILE" in err) == (2, True)
    status, _, err = call("init", "a", *CHOSEN)
    assert (status, "reference: toy-chains there, null asked for" in err) == (2, True)


def test_a_validator_with_many_figures_is_shown_by_those_that_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def metric(name: str, verdict: Verdict, floor: float | None = None) -> Metric:
        return Metric(name, "theta.a", 0.25, 0.05, 0.0, verdict, "", floor, floor and 0.01)

    many = [metric(f"good_{i}", "pass", 0.125) for i in range(28)]
    many += [metric("bad", "fail", 0.125), metric("open", "none", 0.125)]
    write_metrics(
        tmp_path / "metrics.json",
        [Report("mira", (metric("plain", "pass"),)), Report("agreement", tuple(many))],
    )
    show_verdicts(tmp_path / "metrics.json")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["mira", "plain"], ["agreement", "bad"]]
    assert lines[0].split() == ["validator", "figure", "of", "value", "floor", "ideal", "verdict"]
    assert "0.125 ± 0.01" in lines[2]
    assert lines[3:] == ["agreement: 28 of 29 figures pass; the one above failed, all 30 are in the report"]


WRONG = [
    (["--sim", "toi"], "did you mean 'toy'?"),
    (["--estimator", "toy-exact"], "--reference toy-exact"),
    (["--estimator", "toy-extra"], "pip install 'sbikit-toybox[more]'"),
    (["--validator", "toy-agreement"], "--reference NAME"),
    (["--validator", "toy-men"], "did you mean 'toy-mean'?"),
    (["--reference", "toy"], "There is no sampler named 'toy'"),
    (["--set", "simulator.scale=11"], "a number, above 0, at most 10"),
    (["--set", "simulator.scal=1"], "did you mean 'scale'?"),
    (["--set", "seed"], "key=value"),
    (["--device", "gpu"], "one of cpu, cuda, auto"),
    (["--preset", "quik"], "did you mean 'quick'?"),
    (["--config", "absent.yaml"], "absent.yaml"),
    (["--seed", "-1"], "a whole number, at least 0"),
    (["--seed", "x"], "--seed"),
    (["--out", "full"], "not empty and is no run folder"),
    (["--sed", "1"], "--seed"),
    (["--set", "simulator.mode=nan"], "not finite"),
    (["--set", "simulator.mode=raises"], "no solution [here]"),
    (["--set", "simulator.mode=shape"], "(32, 3) = (draws, *x.shape)"),
]


@pytest.mark.parametrize(("words", "text"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_a_mistake_ends_with_2_and_a_message(quick: Path, words: list[str], text: str) -> None:
    Path("full").mkdir()
    Path("full/thesis.tex").write_text("x")
    status, out, err = call("run", *CHOSEN, *SMALL, *words)
    assert status == 2
    assert text in err
    assert out == ""
    assert "Traceback" not in err


def test_an_absent_gpu_ends_with_2(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    status, _, err = call("run", *CHOSEN, *SMALL, "--device", "cuda")
    assert (status, "There is no GPU" in err) == (2, True)


def test_a_defect_ends_with_1_and_its_traceback_is_in_the_log(
    quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_CRASH", "fit 2")
    status, _, err = call("run", *CHOSEN, *SMALL, "--out", "a")
    assert status == 1
    assert "failed: RuntimeError: the toy crashed (use --debug for the traceback" in err
    assert "Traceback" not in err
    assert "Traceback" in Path("a/run.log").read_text()
    status, _, err = call("run", *CHOSEN, *SMALL, "--out", "a", "--debug")
    assert status == 1
    assert "Traceback" in err


def test_an_interrupt_ends_with_130_and_says_how_to_go_on(
    quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_STOP", "fit 2")
    status, _, err = call("run", *CHOSEN, *SMALL, "--out", "a")
    assert status == 130
    assert err.splitlines()[-1] == "Interrupted. The same command goes on from here."
    monkeypatch.delenv("TOY_STOP")
    assert call("run", *CHOSEN, *SMALL, "--out", "a")[0] == 0
    trace = (quick / "trace").read_text().splitlines()
    assert [trace.count(f"fit {step}") for step in range(4)] == [1, 1, 2, 1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_process_with_130(toys: Path, tmp_path: Path, number: signal.Signals) -> None:
    words = ["run", *CHOSEN, *SMALL, "--set", "estimator.pause=60", "--out", str(tmp_path / "a")]
    # What a shell starts in the background ignores SIGINT, and so would the process.
    inherited = signal.signal(number, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "sbikit", *words],
        env=environment(toys),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(number, inherited)
    trace, deadline = tmp_path / "trace", time.monotonic() + 50
    while not (trace.exists() and "fit 0" in trace.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "Interrupted. The same command goes on from here."
    assert "Traceback" not in err


def test_a_real_report_at_the_end_of_a_real_process(toys: Path, tmp_path: Path) -> None:
    words = ["run", "--sim", "toy-field", *CHOSEN[2:4], "--validator", "tarp", *SMALL]
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "sbikit", *words, "--set", "simulator.size=8", "--out", "a"],
        env=environment(toys),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "leaves out field" in result.stderr
    assert "\x1b" not in result.stdout + result.stderr
    assert "</html>" in (tmp_path / "a" / "report.html").read_text()


# --- configuration --------------------------------------------------------------------------


def test_shown_configuration_runs_as_it_is(quick: Path) -> None:
    status, text, _ = call("config", "show", *CHOSEN, "--set", "simulator.scale=1e-3")
    assert status == 0
    Path("run.yaml").write_text(text)
    assert read_config(Path("run.yaml")).simulator.options.model_dump()["scale"] == 1e-3
    assert call("config", "show", "--config", "run.yaml")[1] == text


def test_schema_is_json(quick: Path) -> None:
    status, text, _ = call("config", "schema")
    assert status == 0
    assert "simulator toy" in json.dumps(json.loads(text))


# --- plug-ins -------------------------------------------------------------------------------


def test_plugins_lists_what_works_and_what_does_not(toys: Path) -> None:
    install(toys, "sbikit-lame", {"lame": "sbikit_lame"}, {"sbikit_lame.py": "raise RuntimeError('[half]')"})
    text = offering("sbikit_simulators", "toy", "sbikit_twin:Other")
    install(toys, "sbikit-twin", {"twin": "sbikit_twin"}, {"sbikit_twin.py": text})
    status, out, _ = call("plugins")
    assert status == 0
    assert "toy-linear" in out
    assert "broken: lame of sbikit-lame" in out
    assert "[half]" in out
    assert "clash: the simulator 'toy'" in out
    found = json.loads(call("plugins", "--json")[1])
    assert {"kind": "simulator", "name": "toy"} in found["clashes"]
    assert [problem["entry"] for problem in found["problems"]] == ["lame"]
    assert "toy-mean" in {plugin["name"] for plugin in found["plugins"]}


def test_plugins_show_prints_options(toys: Path) -> None:
    status, out, _ = call("plugins", "show", "toy")
    assert status == 0
    assert "a number, above 0, at most 10" in out
    assert "scale of the data" in out
    assert "no options" in call("plugins", "show", "toy-mean")[1]
    status, _, err = call("plugins", "show", "toi")
    assert (status, "did you mean 'toy'?" in err) == (2, True)


def test_plugins_show_wants_the_kind_where_two_share_a_name(toys: Path) -> None:
    text = offering("sbikit_validators", "toy", "sbikit_toybox.parts:Mean")
    install(toys, "sbikit-twin", {"twin": "sbikit_twin"}, {"sbikit_twin.py": text})
    status, _, err = call("plugins", "show", "toy")
    assert (status, "--kind simulator" in err) == (2, True)
    assert "validator toy" in call("plugins", "show", "toy", "--kind", "validator")[1]
    assert call("plugins", "show", "toy", "--kind", "planet")[0] == 2


def test_plugins_check_tells_a_sound_plugin_from_an_unsound(toys: Path) -> None:
    assert call("plugins", "check", "toy")[:2] == (0, "simulator toy: all promises kept\n")
    assert call("plugins", "check", "toy-exact")[0] == 0
    status, _, err = call("plugins", "check", "toy", "--set", "mode=shape")
    assert (status, "wrong shape" in err) == (2, True)
    status, _, err = call("plugins", "check", "toy-linear", "--set", "step=1")
    assert (status, "did you mean 'steps'?" in err) == (2, True)
    status, _, err = call("plugins", "check", "toy-mean")  # it passes whatever it sees
    assert (status, "No wrong posterior is refused" in err) == (2, True)


@pytest.mark.parametrize("kind", ["simulator", "estimator", "sampler", "validator"])
def test_a_new_plugin_of_each_kind_keeps_its_contract(
    kind: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(site.parent)
    status, out, _ = call("plugins", "new", "my-own", "--kind", kind)
    assert status == 0
    package = Path("sbikit-my-own") / "sbikit_my_own"
    assert str(package / f"{kind}.py") in out
    modules = {f"sbikit_my_own/{p.name}": p.read_text() for p in package.iterdir()}
    install(site, "sbikit-my-own", {"my-own": "sbikit_my_own"}, modules)
    assert call("plugins", "check", "my-own")[:2] == (0, f"{kind} my-own: all promises kept\n")
    test: dict[str, Any] = {}
    exec((package.parent / "tests" / "test_my_own.py").read_text(), test)
    assert callable(test["test_it_keeps_the_contract"])
    told = (package.parent / "README.md").read_text() + (package.parent / "pyproject.toml").read_text()
    assert "$" not in told
    assert f"sbikit {kind}: " in told


def test_a_kind_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = call("plugins", "new", "mine", "--kind", "monitor")
    assert (status, "simulator, estimator, sampler, validator" in err) == (2, True)
    assert not list(tmp_path.iterdir())


def test_a_new_plugin_keeps_its_contract_and_runs(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site.parent)
    status, out, _ = call("plugins", "new", "my-signal")
    assert status == 0
    folder = Path("sbikit-my-signal")
    assert str(folder / "pyproject.toml") in out
    assert 'my-signal = "sbikit_my_signal"' in (folder / "pyproject.toml").read_text()
    modules = {f"sbikit_my_signal/{p.name}": p.read_text() for p in (folder / "sbikit_my_signal").iterdir()}
    install(site, "sbikit-my-signal", {"my-signal": "sbikit_my_signal"}, modules)
    assert call("plugins", "check", "my-signal")[:2] == (0, "simulator my-signal: all promises kept\n")
    assert "noise a pixel" in call("plugins", "show", "my-signal")[1]
    status, _, err = call("plugins", "new", "my-signal")
    assert (status, "already" in err) == (2, True)
    assert call("plugins", "new", "My Signal")[0] == 2


# --- options that would be ignored ----------------------------------------------------------


@pytest.mark.parametrize("option", [["--draws", "20"], ["--out", "new.nc"], ["--reference"]])
def test_options_of_new_data_without_data_are_refused(quick: Path, option: list[str]) -> None:
    assert call("init", quick / "run", *CHOSEN, *SMALL)[0] == 0
    status, _, said = call("sample", quick / "run", *option)
    assert status == 2
    assert "--observation" in said
    assert option[0] in said


def test_json_is_of_the_list_of_plugins(quick: Path) -> None:
    status, shown, _ = call("plugins", "--json")
    assert (status, "plugins" in json.loads(shown)) == (0, True)
    status, _, said = call("plugins", "--json", "show", "toy")
    assert status == 2
    assert "--json" in said
