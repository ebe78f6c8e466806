"""Turn an experiment file and its dataset into objects, each resolved once.

`loading` reads the file, `dataset` finds the data, `network` builds the model, `pretrained` loads pretrained weights,
`compatibility` decides whether a run may resume, `conditions` defines what the model is conditioned on, and
`inspection` estimates the cost.
"""
