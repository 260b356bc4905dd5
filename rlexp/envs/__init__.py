"""Gymnasium environments as algorithms and engines see them; beside the book, nothing else imports Gymnasium."""
