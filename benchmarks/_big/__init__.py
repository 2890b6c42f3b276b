"""A run whose simulator and samplers cost next to nothing, so that what is measured is the rest of it."""
