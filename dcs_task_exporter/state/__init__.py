"""What was counted, kept in a file between two starts."""
