"""`overcommitctl`: one module per verb, `session` has the ports, `render` draws."""
