"""Diffusion models of EEG: recordings in, synthetic recordings out, and evaluation."""
