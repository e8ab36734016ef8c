"""What `otel_ml` raises, and only before `configure()` returns or while a decorator is being written.

    OtelMLError
    ├── ConfigurationError    a wrong argument or setting (also a ValueError)
    └── MissingExtraError     an optional dependency is not installed (also an ImportError)

Every message is two sentences: what is wrong, and what to type.
"""

__all__ = ["ConfigurationError", "MissingExtraError", "OtelMLError"]


class OtelMLError(Exception):
    """Everything `otel_ml` raises is one of these."""


class ConfigurationError(OtelMLError, ValueError):
    """An argument or setting cannot be used; the message says what to type instead."""


class MissingExtraError(OtelMLError, ImportError):
    """An optional dependency is missing; the message holds the pip command."""
