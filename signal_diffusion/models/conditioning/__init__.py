"""Conditioning: attributes and their values (`attributes`), how a network embeds them (`embeddings`), captions (`text`,
`caption_cache`).
"""
