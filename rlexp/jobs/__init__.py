"""One job: its folder, its training, its results and its trained policies."""
