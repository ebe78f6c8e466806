"""Evaluation: how close arrays of microvolts are to others. Knows no model and no training loop."""
