"""From recordings to datasets and back to microvolts.

Whatever knows a file format, an electrode, a unit or a spectrogram lives here; nothing here knows a model.
"""
