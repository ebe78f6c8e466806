"""The parts of `prepare`: recordings staged, labelled, dealt to splits, described, and written as a dataset."""
