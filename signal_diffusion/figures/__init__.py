"""Figures: everything that draws, for people to look at.

`samples` and `dataset` draw with axes (matplotlib), `pixels` without (Pillow).
"""
