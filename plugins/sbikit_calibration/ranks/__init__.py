"""RankTests of ranks: where the truth lies among the draws, quantity by quantity.

`sbc` and `intervals` are the validators; `quantities` says what is ranked (`maps` holds the statistics of
fields), `scores` turns ranks into tests with an exact null, `together` is the joint one; `bands` draws, and
`reach` computes what would have been seen.
"""
