"""Speed and memory on this machine: training, sampling, data and kernels, and other software on the same work.

`signal-diffusion benchmark` prints what is measured here; nothing else uses it.
"""
