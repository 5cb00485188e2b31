"""One run from its arguments to its result: what to spend, when to stop, what stays on disk."""
