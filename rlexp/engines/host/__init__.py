"""The host engine: Gymnasium, NumPy replay, compiled acting and learning; one loop per family."""
