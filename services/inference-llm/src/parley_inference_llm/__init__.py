"""The text engine: one model loaded in vLLM, behind gRPC."""
