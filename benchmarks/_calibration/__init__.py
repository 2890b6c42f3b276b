"""What `calibration.py` is made of."""
