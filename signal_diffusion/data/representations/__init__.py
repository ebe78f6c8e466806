"""Signals in microvolts ⇄ the tensors that models see, and the transforms between them.

A representation is a value object; its parameters are stored in the card, so that samples can be turned into signals.
"""
