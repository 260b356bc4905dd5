"""`python -m rlexp.play` and the like, three lines each: this folder is on the search path of the package."""
