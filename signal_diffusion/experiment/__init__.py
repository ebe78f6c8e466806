"""An experiment file and its dataset become objects, each resolved once.

`loading` reads the file, `dataset` finds the data, `network` builds the model, `pretrained` fills it, `compatibility`
tells whether a run may resume, `conditions` what it can be asked for, `inspection` what it would cost.
"""
