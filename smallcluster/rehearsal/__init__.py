"""The parts of a stop-the-world upgrade rehearsal: what is kept of a cluster before it changes, what is proven."""
