"""The problems of the benchmark sbibm (Lueckmann et al. 2021, arXiv:2101.04653), as simulators."""
