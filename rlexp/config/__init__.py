"""What may be written in a configuration: schema, checks, messages, schedules, and the registry of names."""
