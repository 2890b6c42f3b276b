"""Mutated configurations, options and observations: refused, or done as asked; never a traceback."""

from __future__ import annotations

import itertools
import random
import shutil
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from _faults.commands import Outcome, command
from _faults.kills import pristine
from _faults.runs import KINDS

_NASTY = (
    "1e21", "-1", "0", ".nan", ".inf", "-.inf", "[]", "{}", "null", "~", "''", "true", "1.5", "'3'", "1e400",
    "9" * 400, "9" * 5000, "*a", "&a [*a, *a]", "!!python/object:os.system x", "2001-13-45", "2001-01-01",
    "[" * 30 + "]" * 30, "[" * 3000, "{" * 3000, "\x00", "\x1b[2J", "é", "\u202e", "0x10", "0o17", "1_000",
    "1:30", "<<", "? x", "- - -", "|", "%", "@", "`", "{a: 1, a: 2}", "!!int x", "!!binary =",
    "!!timestamp x", "\ufffd", "&a [&b [*a]]", "1e-400", "-0",
)  # fmt: skip


def configured(folder: Path, number: int) -> dict[str, object]:
    """`sbikit init` with one mutated configuration, or one mutated option."""
    draw = random.Random(f"configuration {number}")
    kind = draw.choice(KINDS)
    text = (pristine(folder, kind) / "run" / "run.yaml").read_text()
    place = _fresh(folder / "configurations" / str(number))
    if draw.random() < 0.6:
        (place / "c.yaml").write_bytes(_mutated(text, draw))
        words, told = ["init", "run", "--config", "c.yaml"], "file"
    else:
        told = f"{draw.choice(_keys(text))}={draw.choice(_NASTY)}".replace("\x00", "0")
        words = ["init", "run", *kind.words[1:], "--set", told]
    return _told(place, command(words, place), told[:80])


def _keys(text: str) -> list[str]:
    """Dotted keys of a rendered configuration, two levels deep."""
    keys, section = [], ""
    for line in text.splitlines():
        key, colon, _ = line.partition(":")
        if colon and not key.startswith(" "):
            section = key
            keys.append(key)
        elif colon and key.startswith("  ") and not key.startswith("   ") and "-" not in key:
            keys.append(f"{section}.{key.strip()}")
    return keys


def _mutated(text: str, draw: random.Random) -> bytes:
    content = text
    for _ in range(draw.randint(1, 3)):
        content = draw.choice((_value, _line, _letter, _bomb, _cut))(content, draw)
    data = bytearray(content.encode("utf-8", "replace"))
    if draw.random() < 0.2 and data:
        data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data)


def _value(text: str, draw: random.Random) -> str:
    lines = text.splitlines()
    i = draw.randrange(len(lines)) if lines else 0
    if lines and ":" in lines[i]:
        lines[i] = lines[i].split(":")[0] + ": " + draw.choice(_NASTY)
    return "\n".join(lines) + "\n"


def _line(text: str, draw: random.Random) -> str:
    lines = text.splitlines() or [""]
    i, j = draw.randrange(len(lines)), draw.randrange(len(lines))
    what = draw.choice(("delete", "twice", "swap", "indent"))
    if what == "delete":
        del lines[i]
    elif what == "twice":
        lines.insert(j, lines[i])
    elif what == "swap":
        lines[i], lines[j] = lines[j], lines[i]
    else:
        lines[i] = "  " + lines[i]
    return "\n".join(lines) + "\n"


def _letter(text: str, draw: random.Random) -> str:
    i = draw.randrange(len(text) + 1)
    return text[:i] + draw.choice("{}[]:,&*#?|-<>=!%@`'\"\\ \t\n0aé") + text[i + draw.randint(0, 2) :]


def _bomb(text: str, draw: random.Random) -> str:
    names = "abcdefghi"
    rows = [f"{names[0]}: &{names[0]} [x, x, x, x, x, x, x, x, x]"]
    rows += [f"{b}: &{b} [" + ", ".join([f"*{a}"] * 9) + "]" for a, b in itertools.pairwise(names)]
    return "\n".join(rows) + "\n" + text if draw.random() < 0.2 else text


def _cut(text: str, draw: random.Random) -> str:
    return text[: draw.randrange(len(text) + 1)] if draw.random() < 0.3 else text


def observed(folder: Path, number: int) -> dict[str, object]:
    """`sbikit sample` with one mutated observation."""
    draw = random.Random(f"observation {number}")
    kind = KINDS[number % 2]
    run = pristine(folder, kind) / "run"
    place = _fresh(folder / "observations" / str(number))
    name, shape = ("x", (3,)) if kind.name == "npe" else ("data", (1, 8, 8))
    how = draw.choice(_OBSERVATIONS)
    file = how(place, name, np.asarray(np.random.default_rng(number).normal(size=shape)), draw)
    words = ["sample", str(run.resolve()), "--observation", file.name, "--draws", "5", "--out", "o.nc"]
    outcome = command(words, place)
    told = f"{how.__name__.strip('_')} {file.suffix}"
    return _told(
        place, outcome, told, wrong="" if how is not _wrong or outcome.refused() else "taken as it is"
    )


def _written(place: Path, name: str, values: np.ndarray, draw: random.Random) -> Path:
    what = draw.choice((".nc", ".npy", "classic"))
    file = place / f"obs{what if what.startswith('.') else '.nc'}"
    if what == ".npy":
        np.save(file, values)
    else:
        data = xr.Dataset({name: ([f"d{i}" for i in range(values.ndim)], values)})
        engine = "h5netcdf" if what == ".nc" else "scipy"
        data.to_netcdf(file, engine=engine)
    return file


def _bytes(place: Path, name: str, values: np.ndarray, draw: random.Random) -> Path:
    file = _written(place, name, values, draw)
    content = bytearray(file.read_bytes())
    for _ in range(draw.randint(1, 8)):
        content[draw.randrange(min(len(content), 4096))] = draw.randrange(256)
    file.write_bytes(bytes(content[: draw.randrange(len(content))] if draw.random() < 0.3 else content))
    return file


def _wrong(place: Path, name: str, values: np.ndarray, draw: random.Random) -> Path:
    """What must be refused, whatever the format."""
    bad = draw.choice(("nan", "inf", "shape", "text", "complex", "objects", "empty", "name"))
    if bad in ("nan", "inf"):
        values.flat[0] = float(bad)
    if bad == "shape":
        values = values[..., :-1]
    if bad == "empty":
        values = values[:0]
    if bad == "text":
        values = values.astype(str)
    if bad in ("complex", "objects"):
        np.save(place / "o.npy", values.astype(complex if bad == "complex" else object), allow_pickle=True)
        return place / "o.npy"
    if bad == "name":
        xr.Dataset({"other": ("n", [1.0])}).to_netcdf(place / "o.nc", engine="h5netcdf")
        return place / "o.nc"
    np.save(place / "o.npy", values)
    return place / "o.npy"


def _links(place: Path, name: str, values: np.ndarray, draw: random.Random) -> Path:
    """Links of HDF5, groups in themselves, arrays elsewhere or without end: all must be refused."""
    with h5py.File(place / "other.nc", "w") as other:
        other[name] = values
    with h5py.File(place / "o.nc", "w") as file:
        bad = draw.choice(("external", "soft", "cycle", "giant", "storage", "virtual", "dangling"))
        if bad == "external":
            file[name] = h5py.ExternalLink("other.nc", f"/{name}")
        elif bad == "soft":
            file["kept"] = values
            file[name] = h5py.SoftLink("/kept")
        elif bad == "dangling":
            file[name] = h5py.SoftLink("/nowhere")
        elif bad == "cycle":
            file[name] = values
            file.create_group("a")["b"] = file["/"]
        elif bad == "giant":
            file.create_dataset(name, shape=(10**12,), dtype="f8", chunks=(1024,))
        elif bad == "storage":
            (place / "raw").write_bytes(values.tobytes())
            file.create_dataset(
                name, values.shape, values.dtype, external=[(str(place / "raw"), 0, values.nbytes)]
            )
        else:
            layout = h5py.VirtualLayout(values.shape, values.dtype)
            layout[...] = h5py.VirtualSource("other.nc", name, values.shape)
            file.create_virtual_dataset(name, layout)
    return place / "o.nc"


_OBSERVATIONS = (_written, _bytes, _bytes, _bytes, _wrong, _links)


def _fresh(place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place


def _told(place: Path, outcome: Outcome, what: str, wrong: str = "") -> dict[str, object]:
    well = (outcome.status == 0 or outcome.refused()) and not outcome.broke() and not wrong
    if what.startswith("links") and outcome.status == 0:
        well, wrong = False, "links were followed"
    if well:
        shutil.rmtree(place)
    return {
        "what": what,
        "well": well,
        "status": outcome.status,
        "said": "" if well else f"{wrong} {outcome.last()}",
    }
