"""Trials dealt out to worker processes: each trains a part of them, and the first process keeps what a job is."""
