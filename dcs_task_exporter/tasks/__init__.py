"""The domain, pure: background tasks, instances, and how they are counted."""
