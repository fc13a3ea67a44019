"""What `make run` is made of: process supervision, embedded Postgres, first-run data."""
