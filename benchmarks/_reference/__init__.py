"""The steps of `benchmarks/reference.py`."""
