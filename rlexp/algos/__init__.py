"""Algorithms, each written for one trial as pure functions on explicit state."""
