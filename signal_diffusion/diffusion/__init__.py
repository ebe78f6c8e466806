"""The mathematics of diffusion on tensors of any shape: schedules, methods, samplers, guidance.

Nothing here depends on a backbone, on data or on an experiment file.
"""
