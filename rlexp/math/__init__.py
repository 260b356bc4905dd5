"""Targets, returns, optimisers, statistics and significance tests: pure functions with hand-computed tests."""
