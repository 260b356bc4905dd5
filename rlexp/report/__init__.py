"""The comparison of the jobs of a study: analysis, figures and the page."""
