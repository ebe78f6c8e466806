"""Figures of samples and datasets.

`samples` and `dataset` plot with axes (matplotlib); `pixels` writes plain images (Pillow).
"""
