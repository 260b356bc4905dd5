"""The fused engine: environment, replay, acting and learning as one XLA program; one loop per family."""
