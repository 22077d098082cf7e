"""The commands, one module each; each function returns whether everything worked."""
