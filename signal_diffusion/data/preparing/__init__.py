"""The steps of `prepare`: stage recordings, label windows, assign subjects to splits, describe, write a dataset."""
