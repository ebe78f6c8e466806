"""The older layouts of experiment files, and how they become today's.

`rows` is the one table of keys; `translation` applies it, `report` says what it did, `comments` writes the result as a
file. Values that are not the same under another name are converted by `outcomes`, `toml_values` and `yaml_values`."""
