"""Gymnasium environments, as the engines see them."""
