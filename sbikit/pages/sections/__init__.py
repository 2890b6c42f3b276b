"""The sections of the page, a file each: what a run folder holds becomes texts, rows and pictures."""
