"""Evaluation: metrics that compare arrays of microvolts. Imports no model and no training loop."""
