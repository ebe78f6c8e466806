"""Embed captions with frozen text encoders, which are loaded from a folder, used once and released.

`finding` finds one; `single` is a transformers encoder, which gives its last hidden state and its own pooled embedding;
`stable_diffusion_3` a diffusers pipeline with the three encoders of Stable Diffusion 3, which gives the embeddings that
model was trained with. `encoder` says what both do; `files`, `configs` and `loading` read them with transformers.
"""
