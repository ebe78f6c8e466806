"""Backbones (networks `forward(x, t, cond) -> prediction`), their conditioning, and autoencoders.

Nothing here depends on a loss, a sampler or an experiment file. A backbone is one file and one line in registry.py.
"""
