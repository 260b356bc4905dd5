"""The textbook chapter: its notebook's own loops, run literally, and the reproduction of its figures by presets."""
