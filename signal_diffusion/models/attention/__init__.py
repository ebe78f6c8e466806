"""Attention: one function of each kind for all backbones, over all tokens (`full`) or near ones (`neighbourhood`).

`dense`, `tiles` and `cuda` are the backends of neighbourhood attention, `windows` says which keys each query sees.
"""
