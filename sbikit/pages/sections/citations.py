"""References: every citation once, with links."""

from __future__ import annotations

import re
from collections.abc import Iterable

from markupsafe import Markup

from sbikit.roles.validator import Report

_LINKS = re.compile(r"(?P<arxiv>arXiv:\s?(\d{4}\.\d{4,5}))|(?P<doi>doi:\s?(10\.\S+?))(?=[\s,;)]|\.?$)")


def references(reports: Iterable[Report]) -> list[Markup]:
    """Every citation once, in order, with links for arXiv numbers and DOIs."""
    unique = dict.fromkeys(text for report in reports for text in report.references)
    return [_linked(text) for text in unique]


def _linked(text: str) -> Markup:
    html, end = Markup(""), 0
    for match in _LINKS.finditer(text):
        number_ = match[2] or match[4]
        site = "https://arxiv.org/abs/" if match["arxiv"] else "https://doi.org/"
        html += text[end : match.start()] + Markup('<a href="{}{}">{}</a>').format(site, number_, match[0])
        end = match.end()
    return html + text[end:]
