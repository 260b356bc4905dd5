"""The report of a study: reading its jobs, comparing them, drawing figures, writing the page and its tables."""
