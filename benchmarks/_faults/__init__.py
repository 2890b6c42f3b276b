"""Parts of benchmarks/faults.py: what is done to sbikit, and whether it answers well."""
