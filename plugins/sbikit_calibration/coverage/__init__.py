"""Tests against truths: is the truth one more draw? Judged by how close truth and draws lie to centres.

`mira` and `tarp` are the validators; `ranked` the ranks that both judge, by `distance` from `centres` (which
`regression` and `features` make of the data); `contraction` tells a posterior from the prior.
"""
