"""Autoencoders: a frozen one for latent diffusion (`frozen`, loaded by `loading`), and one that we train (`trainable`).

Examples are padded to sizes that they divide (`padding`), latents normalised by their `latent_statistics`.
"""
