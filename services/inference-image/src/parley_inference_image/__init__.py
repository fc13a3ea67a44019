"""Durable image jobs: admitted against a hold, drawn by diffusers, settled exactly once."""
