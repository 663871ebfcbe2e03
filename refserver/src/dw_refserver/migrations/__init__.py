"""Schema migrations, run by `bootstrap`."""
