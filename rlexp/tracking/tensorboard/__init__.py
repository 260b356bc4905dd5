"""The tracker for TensorBoard: event files of a study's jobs, written by TensorFlow from the jobs' folders."""
