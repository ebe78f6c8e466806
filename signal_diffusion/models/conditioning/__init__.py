"""Conditioning: attributes and their values (`attributes`), layers that embed them (`embeddings`), text encoders for
captions (`text`) and their cache (`caption_cache`).
"""
