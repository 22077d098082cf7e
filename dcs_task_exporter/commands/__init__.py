"""What the program does besides serving: checks, one pass over the instances, reports."""
