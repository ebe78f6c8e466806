"""Figures of samples and datasets.

`traces` and `topomaps` draw into given axes, `samples` and `dataset` write whole figures (matplotlib); `pixels` writes
plain images (Pillow).
"""
