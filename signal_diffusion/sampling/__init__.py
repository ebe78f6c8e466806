"""Samples from a trained model: what is asked for, drawing them, and what they are in microvolts and files.

The mathematics are in `diffusion/`; what a user calls is the command, or the pipeline of `signal_diffusion.pipeline`.
"""
