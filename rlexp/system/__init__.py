"""Files, texts, processes and signals; what comes from outside is data, and is checked here before anybody uses it."""
