"""Figures as the page holds them: in two layouts, with words for those who see them and those who do not."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from sbikit.pages.figures.style import NARROW, WIDE, FigureLayout, png

_CSS_PIXELS_AN_INCH = (
    104  # a figure of 9.2 inches fills the text column, and its letters are those of captions
)


@dataclass(frozen=True)
class Picture:
    """A figure in its wide and its narrow layout.

    Args:
        name: file name without its ending.
        alt: what it shows, for those who do not see it.
        caption: what is drawn.
        look: what to look for.
        wide, narrow: PNG files.
    """

    name: str
    alt: str
    caption: str
    look: str
    wide: bytes
    narrow: bytes

    @property
    def wide_uri(self) -> str:
        """The wide figure as a data URI."""
        return _data_uri(self.wide)

    @property
    def narrow_uri(self) -> str:
        """The narrow figure as a data URI."""
        return _data_uri(self.narrow)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the page, in CSS pixels."""
        width, height = struct.unpack(">II", self.wide[16:24])
        scale = _CSS_PIXELS_AN_INCH / WIDE.dpi
        return round(width * scale), round(height * scale)


def _data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def make_picture(
    name: str, alt: str, caption: str, look: str, draw: Callable[[FigureLayout], Figure]
) -> Picture:
    """Draw a figure in both layouts; what no file name may hold becomes a dash in its name."""
    wide, narrow = (png(draw(layout), layout) for layout in (WIDE, NARROW))
    return Picture(re.sub(r"[^A-Za-z0-9_.-]+", "-", name), alt, caption, look, wide, narrow)
