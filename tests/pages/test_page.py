import re
import struct
import subprocess
import sys

from reading import Text

from sbikit.pages import read_run, write_report
from sbikit.pages.page import named
from sbikit.pages.pictures import Picture


def test_the_page_is_whole(full):
    path, html = full
    page = Text(html)
    assert path.name == "report.html"
    assert len(set(page.ids)) == len(page.ids)
    inner = [link[1:] for link in page.links if link.startswith("#")]
    assert len(inner) == 12
    assert inner.count("reference") == 2  # in the contents and beside the verdict
    assert set(inner) <= set(page.ids)
    assert "None" not in page.text
    assert "nan" not in page.text.lower().split()


def test_the_page_needs_nothing_from_outside(full):
    page = Text(full[1])
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "<script" not in full[1]
    assert "@import" not in full[1]
    assert "url(" not in full[1]
    assert "default-src 'none'" in full[1]


def test_the_verdict_says_what_failed(full):
    page = Text(full[1])
    assert "Not calibrated: 5 of 6 checks pass" in page.text
    assert "is 0.6120 ± 0.0052, where 0.6667 is ideal (10.5 standard errors below)" in page.text
    assert "the draws are too narrow" in page.text


def test_every_section_is_there(full):
    text = Text(full[1]).text
    for words in (
        "lognormal with diffusion-transformer",
        "from 128,000 simulations",
        "200 draws for the observation",
        "64 draws for each of 24 held-out simulations",
        "Mean redshift of the sources bin 1: 0.4321, bin 2: 0.8765",
        "Masked pixels <none>",
        "simulator.noise.sigma_e",
        "validators.coverage.levels",
        "Wall time",
        "2 min 37 s",
        "1.0286 ± 0.0048",
        "sbikit run --sim lognormal --estimator diffusion-transformer --seed 3 --out runs/a",
        "last validation loss 0.306",
        "torch",
    ):
        assert words in text, words
    assert "https://arxiv.org/abs/2605.02014" in full[1]
    assert "https://doi.org/10.48550/arXiv.2302.03026" in full[1]


def test_figures_are_saved_and_embedded(full):
    folder = full[0].parent / "figures"
    names = {path.stem for path in folder.iterdir()}
    assert names == {
        "observation_shear",
        "summary_kappa_raw",
        "summary_moments",
        "corner",
        "field_kappa",
        "statistics_kappa",
        "calibration_coverage",
        "agreement_mean_offset",
        "agreement_band_power_ratio",
        "recovery_parameters",
        "recovery_fields",
        "training",
        "noise_levels",
    }
    for path in folder.iterdir():
        content = path.read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", content[16:24])
        assert 400 < width < 1600
        assert 300 < height < 1600


def test_numbers_of_the_table_are_those_of_the_draws(full):
    files = read_run(full[0].parent)
    draws, truth = files.posterior.posterior["theta"][:, 0], files.posterior.truth["theta"][0]
    row = page_content_row(full[1], "Ω")
    offset = (draws.mean() - truth) / draws.std(ddof=1)
    assert f"{draws.mean():.4f}" in row
    assert f"{draws.std(ddof=1):.4f}" in row
    assert f"{offset:+.2f}".replace("-", "−") in row


def page_content_row(html, name):
    """The text of the first parameter row whose heading holds `name`."""
    body = html[html.index('id="parameters"') :]
    start = body.index(name, body.index("<tbody>"))
    return re.sub(r"<[^>]+>", " ", body[start : body.index("</tr>", start)])


def test_the_report_is_the_same_twice(full):
    assert write_report(full[0].parent).read_text(encoding="utf-8") == full[1]


def test_importing_sbikit_imports_no_matplotlib():
    code = (
        "import sys, sbikit, sbikit.storage.write, sbikit.fields.spectra, sbikit.storage.metrics; "
        "print('matplotlib' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_no_figure_takes_the_place_of_another():
    """Channel 1 of a field `a` and a field `a_1` ask for one file name."""
    pictures = [
        Picture(name, "", "", "", bytes([i]), b"")
        for i, name in enumerate(["a_1", "b", "a_1", "A_1", "a_1-2"])
    ]
    found = named(pictures)
    assert list(found) == ["a_1", "b", "a_1-2", "A_1-3", "a_1-2-2"]
    assert list(found.values()) == pictures
