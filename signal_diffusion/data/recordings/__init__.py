"""EEG recordings: find and open files, read them as microvolts at one rate, cut windows.

File formats, BIDS, electrodes and subject tables are handled here. MNE-Python does the decoding.
"""
