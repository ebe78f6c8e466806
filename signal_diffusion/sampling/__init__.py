"""Sampling from a trained model: requests, generated samples, and their conversion to microvolts and files.

The mathematics is in `diffusion/`. Users call the command, or the pipeline in `signal_diffusion.pipeline`.
"""
