"""The textbook chapter: its own loops, its two environments and the reproduction of its figures."""
