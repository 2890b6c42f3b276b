"""The steps of `benchmarks/power.py`."""
