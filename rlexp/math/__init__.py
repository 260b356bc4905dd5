"""Targets, returns, optimisers and statistics: pure functions with hand-computed tests."""
