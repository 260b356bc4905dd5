"""Where records go besides the job folder: delivery to a tracker, off the training path."""
