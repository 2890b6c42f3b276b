"""What `tuning.py` is made of."""
