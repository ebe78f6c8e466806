"""Samples for other libraries, one module each, which is imported only when asked for.

`integrations.braindecode` needs the optional extra `evaluation`.
"""
