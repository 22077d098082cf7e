"""Log lines: their formats, and the queue that never holds up a scrape."""
