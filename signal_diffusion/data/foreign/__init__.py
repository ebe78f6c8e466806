"""Datasets that `prepare` did not make (image folders, Parquet files, the Hub), converted once to our format.

`convert` is the entry point, after `split_locations` found the splits; `image_folder` writes samples as such a folder.
Only this folder knows that a dataset was not made by `prepare`.
"""
