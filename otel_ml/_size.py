"""About how many bytes attributes hold: what queues are bounded by."""

# Bytes that one slot of a queue stands for; a span with attributes of its own takes several.
SLOT = 512
# What a dictionary of a span's own, an event or a link holds before its texts (measured: 360 bytes for ten entries).
DICT = 600
ENTRY = 32


def weigh(value: object) -> int:
    """Return about how many bytes an attribute's value holds."""
    if type(value) is str or type(value) is bytes:
        return len(value)
    if type(value) is tuple:
        return ENTRY * len(value) + sum(map(weigh, value))  # pyright: ignore[reportUnknownArgumentType]  # of anything
    return DICT + sum(map(weigh, value.values())) if type(value) is dict else ENTRY  # pyright: ignore[reportUnknownArgumentType]  # likewise
