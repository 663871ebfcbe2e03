"""Brings up, proves and tears down a small Durable Workflow Server cluster on Docker Compose.

Data flows one way: env layers → `settings` → `render` → `cluster` → `checks` → `report`.
"""
