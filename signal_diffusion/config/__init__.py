"""What an experiment file may say, and how it is read.

`schema` has one dataclass per table, `loading` turns text into them, `rules` holds tables against each other.
Nothing here imports another room: what backbones, representations and samplers exist is handed in."""
