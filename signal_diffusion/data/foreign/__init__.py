"""Datasets that `prepare` did not make (image folders, Parquet files, the Hub), converted once to our format.

`convert` is the entry point, `rows` reads and checks rows, `image_folder` writes samples as a folder of images.
"""
