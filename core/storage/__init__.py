"""Engines of durable storage. `core.storage.sqlite.SqliteStore` is the one for a single machine."""
