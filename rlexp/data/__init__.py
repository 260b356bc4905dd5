"""Arrays of N trials: random numbers, replay rings, rollout buffers, records and checkpoints."""
