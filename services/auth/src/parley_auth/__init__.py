"""Parley's accounts, sessions and signing keys."""
