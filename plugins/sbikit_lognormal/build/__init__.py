"""Making the tables that ship: runs of CAMB at a design of cosmologies, and the fit to them.

Nothing of this runs when a simulator is made or draws; it needs the extra `camb`.

    python -m sbikit_lognormal.build table      # remakes the table in this package
    python -m sbikit_lognormal.build held-out   # remakes the reference values of the tests
"""
