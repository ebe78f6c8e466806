"""Figures of samples and datasets.

`traces`, `topomaps`, `images` and `averages` draw into given axes; `samples`, `reconstructions`, `latents`, `dataset`
and `grids` write whole figures. `pixels` and `trace_images` draw examples as arrays of pixels.
"""
