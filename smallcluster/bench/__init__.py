"""Measures a cluster of this checkout: cycles, wakes, idle polls. Numbers beside targets, not a verdict."""
