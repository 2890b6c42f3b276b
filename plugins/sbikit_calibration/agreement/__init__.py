"""Agreement with an exact sampler: how far the judged draws are from exact ones, each figure with its floor.

`validator` says what is measured; `options` and `figures` list it. `comparison` takes the draws apart in a
`trio` of which `numbers` measures everything, observation by observation (`parameters`, `c2st`, `power`,
`maps`, `coherence`); `verdict` makes figures of the numbers, `curves` the curves; `compared` names it all.
"""
