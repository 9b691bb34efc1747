"""The conversation: what happens between a person's message and the answer. No platform name, no YAML, no SDK."""
