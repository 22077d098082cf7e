"""The API: tasks and instances of a project; requests signed, within the budget, and checked."""
