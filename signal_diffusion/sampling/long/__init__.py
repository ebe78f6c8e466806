"""Recordings longer than a window: windows that continue each other, under conditions that may change over time.

`request` turns options into a request, `generating` generates it, `job` writes the files.
"""
