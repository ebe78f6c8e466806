"""The report as a page: `rendering` fills the template, `pictures` lists its figures, the other modules draw them.

One file without scripts that needs no network. It is drawn from the windows of a `Report`, in the order that they have.
"""
