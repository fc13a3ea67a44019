"""The model catalogue, its prices, and the leases of living replicas."""
