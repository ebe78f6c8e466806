"""Units of work: run in this process, in processes of this machine, on a Dask cluster, or by the jobs of an array.

What they are for, `prepare`, `encode` and `evaluate utility`, is defined where these commands are.
"""
