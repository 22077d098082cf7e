"""The configuration file: its keys, its mistakes, its secrets."""
