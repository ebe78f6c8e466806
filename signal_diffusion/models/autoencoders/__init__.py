"""Autoencoders: a frozen one for latent diffusion (`frozen`), and one that we train (`trainable`)."""
