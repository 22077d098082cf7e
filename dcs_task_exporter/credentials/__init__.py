"""Where the keys and tokens of a project come from, and how those that end are renewed."""
