"""The one training loop and what it needs: optimizers, averages, checkpoints, validation, previews, tracking.

`diffusion.py` is the entry point that reads an experiment; `trainer.py` is the loop, which is given its parts."""
