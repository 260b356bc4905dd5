"""The sections of a report's page, each with its figures and tables."""
