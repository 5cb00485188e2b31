"""The result of a run, and the questions that it answers without another product."""
