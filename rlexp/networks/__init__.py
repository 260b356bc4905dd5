"""Keras models of one trial, and their weights as one flat vector."""
