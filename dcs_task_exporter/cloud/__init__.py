"""The API: the tasks and instances of a project, by signed requests within the rate limit."""
