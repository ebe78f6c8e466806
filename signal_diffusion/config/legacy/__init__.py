"""Older layouts of experiment files, and their translation to today's; imported only for such a file.

`flat_toml` and `yaml_layouts` are the tables of keys and defaults, `engine` applies them, `translation` in order;
`report` prints what changed, `migrating` writes the result as a file."""
