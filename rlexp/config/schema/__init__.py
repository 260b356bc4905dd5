"""The schema of a configuration: types, ranges, and one line of help for each field.

The default of a field equals the value in its YAML. It is used for settings that are built in Python, and for stored
jobs that are older than a key. If several algorithms share a schema, the default is that of the algorithm in `name`;
`tests/config/test_defaults.py` compares them.
"""
