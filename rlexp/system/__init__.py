"""Files, text, processes and signals; checks of everything that comes from outside."""
