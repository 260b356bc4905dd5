"""The jobs of one multirun: plan, outcomes and launchers."""
