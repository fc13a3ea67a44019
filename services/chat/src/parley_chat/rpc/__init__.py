"""Servicers: check, convert, call, return."""
