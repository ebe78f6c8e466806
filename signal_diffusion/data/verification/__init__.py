"""Verify a dataset against its card: everything is read and counted again.

`checks` is the entry point: `counting` reads each file once, and the other modules compare one part with the card.
"""
