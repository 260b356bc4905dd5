"""Hyper-parameter search: the space, the candidates and the objective."""
