"""Which libraries of an offer's extra are not installed, from what distributions say of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement

from sbikit.plugins.installed import Found


def missing(found: Found) -> tuple[str, ...]:
    """Distributions that the extra of an offer asks for and that are not installed, or in another version."""
    if not found.offer.extra:
        return ()
    return tuple(dict.fromkeys(_missing(found.distribution, found.offer.extra, set())))


def _missing(distribution: str, extra: str, seen: set[tuple[str, str]]) -> Iterator[str]:
    if (distribution, extra) in seen:
        return
    seen.add((distribution, extra))
    for text in metadata.requires(distribution) or ():
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue
        marker = wanted.marker
        if marker is None or marker.evaluate({"extra": ""}) or not marker.evaluate({"extra": extra}):
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            yield str(wanted).partition(";")[0].strip()
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            yield str(wanted).partition(";")[0].strip()
        for further in sorted(wanted.extras):
            yield from _missing(wanted.name, further, seen)
