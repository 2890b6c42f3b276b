r"""How far a field is logarithmic above its declared bound, where a guide by rings starts from it.

A wide bend makes the prior of a log-normal field normal, a narrow one leaves data that are linear in the
field linear in its coordinates: which is better depends on how much data tell. It is told by the score of the
guide's posterior, ln p(x | d, u) = ln N(y; W, V) + ln |dy / dx|, a proper one, by which laws can be compared
(Gneiting and Raftery 2007, JASA 102, 359): of one field and its data map, averaged over simulations.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sbikit.fields import Rings
from sbikit.learning import Parts
from sbikit_transformer.bounds import SOFTNESS
from sbikit_transformer.linear_model import fit_model, model_at
from sbikit_transformer.polynomials import Quadratic
from sbikit_transformer.transforms import WHITE, FieldMap

# Simulations that tell, by how many pixels they have: by 2^18 numbers of a channel the scores of the best two
# widths of the quick preset differ by .0023 +- .0003 a number.
_NUMBERS, _LEAST, _MOST = 2**20, 256, 1024
# Widths tried, in units of the mean's distance from the bound: narrower ones, too, than make a field normal,
# since of what data tell nearly all the posterior is normal where they are linear. With the first a field is
# linear but in its emptiest pixels; narrower ones score as it does.
_WIDTHS = (0.125, 0.25, *SOFTNESS)
DATA = "data/of channels"  # no name of a variable


def choose_bends(field_map: FieldMap, parts: Parts, rings: Rings) -> None:
    """Set the width of the bend of each channel with a declared bound; mean and scale are to be fitted anew.

    Args:
        field_map: with bounds that are fitted.
        parts: simulations, the first of which tell: latents, `WHITE` scalars, and `DATA` (m, C, *grid), data
            fields, one a channel.
        rings: of the guide.
    """
    some = parts.up_to(max(_LEAST, min(_MOST, _NUMBERS // math.prod(rings.grid)))).joined()
    data = rings.transform(some.pop(DATA))
    scores = []
    for softness in _WIDTHS:
        field_map.softness[field_map.declared] = softness
        field_map.fit_scale(Parts.held(some))
        y = rings.transform(field_map.encode(some, some[WHITE]))
        log_stretch = field_map.log_stretch(some, some[WHITE]).double().mean(0)
        of_normal = [
            _log_density(some[WHITE], y[:, channel, None], data[:, channel, None], rings, field_map.quadratic)
            for channel in field_map.declared
        ]
        scores.append(torch.stack(of_normal) + log_stretch[field_map.declared])
    best = torch.stack(scores).argmax(0)
    field_map.softness[field_map.declared] = torch.tensor(_WIDTHS)[best]


def _log_density(u: Tensor, y: Tensor, data: Tensor, rings: Rings, quadratic: Quadratic) -> Tensor:
    """Mean of ln N(y; W, V), of a law that is fitted to fields and data of one channel, (M, 1, modes)."""
    found = fit_model(Parts.held({"u": u, "y": y, "d": data}), rings, quadratic)
    return model_at(quadratic(u.double()), *found).log_density((y, data), rings).mean()
