"""Older layouts of experiment files, and their translation to the current one.

`rows` is the table of older keys; `translation` applies it, `report` prints what changed, `comments` writes the result
as a file. `outcomes`, `toml_values` and `yaml_values` convert values that are not just renamed."""
