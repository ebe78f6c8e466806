"""The experiment file: its tables, how it is read, and how it is checked.

`schema` has one dataclass per table, from the modules `*_tables`; `loading` reads a file into them, `writing` writes it
back, `rules` finds settings that conflict. Nothing here imports another subpackage; the caller passes in the names of
backbones, representations and samplers (`offer`).
"""
