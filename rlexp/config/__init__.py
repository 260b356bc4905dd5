"""Configuration: schema, checks, messages, schedules, and the registry of names."""
