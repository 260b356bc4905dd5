"""The command `rlexp`, one file for each sub-command."""
