"""From recordings to datasets, and back to microvolts.

File formats, electrodes, units and spectrograms are handled here; nothing here knows a model.
"""
