"""Views of what a run found: for a person on a terminal, for a machine as JSON. Two printers, one result."""
