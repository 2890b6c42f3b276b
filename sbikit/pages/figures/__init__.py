"""The figures of a report, a file an idea, drawn on matplotlib's object interface (Agg).

Each is drawn in two layouts, see `style`; arrays come in, a `Figure` goes out, nothing is read or written.
"""
