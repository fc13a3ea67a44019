"""The small library that every Parley service shares. It imports no service."""
