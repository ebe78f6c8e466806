"""What is learnt and how it is sampled: schedules, methods, samplers, guidance.

The mathematics of diffusion on tensors of any shape; knows no backbone, no data and no experiment file.
"""
