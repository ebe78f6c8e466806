"""Checks across tables: settings that are each valid but conflict, or have no effect, together.

`checking` applies all of them, `effects` has the keys without effect, and the other modules have the rules: functions
that yield (dotted key, message).
"""
