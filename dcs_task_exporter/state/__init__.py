"""The counts of all instances, kept in a file across restarts."""
