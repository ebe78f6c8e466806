"""Figures of samples and datasets.

`traces`, `topomaps`, `images` and `averages` draw into given axes; `samples`, `reconstructions`, `latents` and
`dataset` write whole figures (matplotlib); `pixels` writes plain images (Pillow).
"""
