"""Parley's chat: conversations, generations that outlive their connection, the OpenAI-shaped edge."""
