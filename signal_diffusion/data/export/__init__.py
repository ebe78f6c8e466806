"""Signals for other programs: as MNE's objects, and in files of several formats.

`mne_objects` and `file_formats` are the entry points, `assembling` puts single electrodes together to whole windows.
"""
