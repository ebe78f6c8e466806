"""Restore recordings: missing or bad electrodes, gaps, and what would come after the end.

`plan` says what is given of a recording and what is missing, `job` reads it and fills in the rest, `result` has the
restored signals, and `writing` their files.
"""
