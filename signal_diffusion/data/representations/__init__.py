"""Signals in microvolts ⇄ the tensors that models see, with the transforms underneath.

A representation is a value whose parameters travel in the card, so that every sample can find its way back.
"""
