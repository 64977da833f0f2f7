"""How many rows of a batch are worked on at a time."""

# Entries of the widest layer's activations in one chunk: a few such arrays fit a CPU's
# second-level cache, and the memory of a product no longer grows with the batch.
CHUNK_ENTRIES = 2**18


def chunk_rows(rows: int, width: int) -> int:
    """Rows of each chunk of a batch of `rows`, for layers of at most `width` units.

    All chunks but the last have this many rows, and the last at most as many.
    """
    chunks = -(-rows * width // CHUNK_ENTRIES)
    return -(-rows // max(chunks, 1))
