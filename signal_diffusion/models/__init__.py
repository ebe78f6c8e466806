"""Backbones, networks with the contract `forward(x, t, cond) -> prediction`, and what conditions them.

Knows no loss, no sampler and no experiment file; a backbone is one file and one line of registry.py.
"""
