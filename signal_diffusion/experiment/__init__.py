"""Turn an experiment file and its dataset into objects, each resolved once.

`loading` reads the file, `dataset` finds the data, `checkpoint` reads how a checkpoint was trained, `pretrained` loads
pretrained weights, and `resolving` does all of that for a new run; `assumed` stands in for what is missing. `network`
builds the model, `conditions` says what it is conditioned on, `compatibility` decides whether a run may resume, and
`inspection` estimates the cost.
"""
