"""What may be written in a configuration: types, ranges, and one line of help for each field.

The default of a field is the value of its YAML, for settings that are built in Python and for jobs that are older than
a key. Where several algorithms share a schema, it is the value of the algorithm that `name` says;
`tests/config/test_defaults.py` compares them.
"""
