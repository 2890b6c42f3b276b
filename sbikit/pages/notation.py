r"""Names in LaTeX as HTML: `\Omega_m` becomes Ω<sub>m</sub>, so that a page needs no script for them.

Greek letters, a few symbols, sub- and superscripts, `\mathrm`-like commands, `\hat`-like accents and
braces are understood; any other name is shown by its plain label.
"""

from __future__ import annotations

import re

from markupsafe import Markup, escape

_SYMBOLS = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "epsilon": "ε",
    "varepsilon": "ε",
    "zeta": "ζ",
    "eta": "η",
    "theta": "θ",
    "vartheta": "ϑ",
    "iota": "ι",
    "kappa": "κ",
    "lambda": "λ",
    "mu": "μ",
    "nu": "ν",
    "xi": "ξ",
    "pi": "π",
    "rho": "ρ",
    "sigma": "σ",
    "tau": "τ",
    "upsilon": "υ",
    "phi": "φ",
    "varphi": "φ",
    "chi": "χ",
    "psi": "ψ",
    "omega": "ω",
    "Gamma": "Γ",
    "Delta": "Δ",
    "Theta": "Θ",
    "Lambda": "Λ",
    "Xi": "Ξ",
    "Pi": "Π",
    "Sigma": "Σ",
    "Upsilon": "Υ",
    "Phi": "Φ",
    "Psi": "Ψ",
    "Omega": "Ω",
    "ell": "ℓ",
    "log": "log ",
    "ln": "ln ",
    "odot": "⊙",
    "times": "×",
    "cdot": "·",
    "pm": "±",
    "star": "⋆",
    "prime": "′",
    "perp": "⊥",
    "parallel": "∥",
    "infty": "∞",
    "sum": "∑",
    ",": " ",
    ";": " ",
    " ": " ",
}
_UPRIGHT = ("mathrm", "rm", "text", "textrm", "mathbf", "bf", "mathit", "it")
_ACCENTS = {"hat": "\u0302", "bar": "\u0304", "tilde": "\u0303", "vec": "\u20d7", "dot": "\u0307"}
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[{}_^]|\s+|.")


class _Unknown(Exception):
    """A construct that is not understood."""


def latex_to_html(latex: str, label: str) -> Markup:
    """A LaTeX name without `$` as HTML; the escaped label where it is not understood."""
    if latex == label and not re.search(r"[\\^{}]", latex):
        return escape(label)
    tokens = [token for token in _TOKEN.findall(latex.strip("$")) if not token.isspace()]
    try:
        html = _sequence(tokens, upright=False)
    except (_Unknown, IndexError):
        return escape(label)
    return escape(label) if tokens else html


def _sequence(tokens: list[str], *, upright: bool) -> Markup:
    """HTML of the tokens up to the closing brace or the end; takes them off the list."""
    html = Markup("")
    while tokens and tokens[0] != "}":
        if tokens[0].lstrip("\\") in ("rm", "bf", "it") and tokens[0].startswith("\\"):
            tokens.pop(0)
            upright = True
            continue
        html += _atom(tokens, upright=upright)
    return html


def _atom(tokens: list[str], *, upright: bool) -> Markup:
    token = tokens.pop(0)
    if token == "{":
        inner = _sequence(tokens, upright=upright)
        tokens.pop(0)
        return inner
    if token in "_^":
        tag = "sub" if token == "_" else "sup"
        return Markup("<{0}>{1}</{0}>").format(Markup(tag), _atom(tokens, upright=upright))
    if token == "}":
        raise _Unknown(token)
    if not token.startswith("\\"):
        return Markup("<i>{}</i>").format(token) if token.isalpha() and not upright else escape(token)
    name = token[1:]
    if name in _UPRIGHT:
        return _atom(tokens, upright=True)
    if name in _ACCENTS:
        accented = _atom(tokens, upright=True) + _ACCENTS[name]
        return accented if upright else Markup("<i>{}</i>").format(accented)
    if name in _SYMBOLS:
        return escape(_SYMBOLS[name])
    raise _Unknown(token)


__all__ = ["latex_to_html"]
