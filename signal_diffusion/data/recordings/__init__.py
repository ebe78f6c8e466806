"""Recordings of EEG: found, opened, read as microvolts at one rate, and cut into windows.

Everything that knows a file format, BIDS, an electrode or a person. MNE-Python does the decoding.
"""
