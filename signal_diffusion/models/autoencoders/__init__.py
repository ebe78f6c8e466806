"""Autoencoders: the frozen one that a diffusion model works behind (`frozen`), and the one that we train
(`trainable`).
"""
