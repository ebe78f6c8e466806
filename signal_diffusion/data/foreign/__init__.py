"""Data of others: pictures, Parquet files and datasets of the Hub, rewritten once as datasets of our own.

`convert` is the entry, `rows` checks each row, `picture_folder` reads folders of images.
"""
