"""The durable truth: tables, one named function per query, and the only place that knows a dialect."""
