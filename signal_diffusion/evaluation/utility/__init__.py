"""Utility: what synthetic windows are worth to a classifier that is tested on people it was not trained on.

`measuring` trains and tests (METRICS: TRTR, TSTR, TRTS, and the gain of adding synthetic windows), `result` holds what
was found.
"""
