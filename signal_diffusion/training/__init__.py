"""Training: the loop, optimizers, weight averages, checkpoints, validation, previews and tracking.

`diffusion.py` and `autoencoder.py` are the commands, which read an experiment; `trainer.py` is the one loop of both."""
