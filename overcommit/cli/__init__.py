"""`overcommitctl`: one module per verb. `session` has the common options, `render` makes text."""
