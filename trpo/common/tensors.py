"""Arrays and what is said of them as bytes: safetensors and JSON, checked when read.

No pickle anywhere, so that reading can't run code; and every byte has a checksum.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from trpo.common.validation import DTYPES, shown


# Of a manifest, and of a state besides its numbers, in bytes.
LARGEST_HEADER = 16 * 2**20
Arrays = Mapping[str, np.ndarray]
# Where a file that is all in one has its manifest among safetensors' own metadata.
_ENTRY, _CHECKSUM = "trpo", "manifest_sha256"


def saveable(name: str, array: np.ndarray) -> np.ndarray:
    """A contiguous copy in native byte order: safetensors writes raw memory.

    Raises:
        ValueError: it can't be saved and loaded again.
    """
    if not isinstance(name, str) or name in ("", "__metadata__"):
        raise ValueError(f"`arrays`: expected names that are text, got {name!r}.")
    array = np.asarray(array)
    if array.dtype.name not in DTYPES or not np.isfinite(array).all():
        raise ValueError(
            f"`arrays[{name!r}]`: expected finite {', '.join(DTYPES)}, got {array!r}."
        )
    # Not np.ascontiguousarray, which turns shape () into (1,).
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


def describe(arrays: Arrays) -> dict[str, dict[str, Any]]:
    """Shape, dtype and checksum of each array."""
    return {
        name: {
            "shape": list(array.shape),
            "dtype": array.dtype.name,
            "sha256": sha256(array.tobytes()),
        }
        for name, array in arrays.items()
    }


def sha256(content: bytes) -> str:
    """The checksum as hexadecimal text."""
    return hashlib.sha256(content).hexdigest()


def encode_manifest(manifest: dict[str, Any]) -> bytes:
    """The one encoding of a manifest, with its own checksum in it.

    Raises:
        ValueError: JSON can't hold it.
    """
    try:
        # Twice: keys that are numbers become text, and then are sorted as text.
        text = json.dumps(json.loads(json.dumps(manifest)), sort_keys=True)
        whole = {**json.loads(text), _CHECKSUM: sha256(text.encode())}
        return json.dumps(whole, sort_keys=True, allow_nan=False, indent=1).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"`metadata`: expected what JSON can hold: {error}.") from None


def decode_manifest(content: bytes | str) -> dict[str, Any]:
    """The manifest that was encoded so.

    Raises:
        ValueError: it is none, or not as it was written.
    """
    try:
        manifest = json.loads(content)
        manifest.pop(_CHECKSUM, None)
        encoded = encode_manifest(manifest)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"not a JSON manifest: {error}.") from None
    # A manifest has one encoding, so no changed byte goes unnoticed.
    if encoded != (content.encode() if isinstance(content, str) else content):
        raise ValueError("damaged: its checksum does not match.")
    return manifest


def decode_arrays(content: bytes, expected: Any) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, which are as `describe` said.

    Raises:
        ValueError: they are not, or hold numbers that are not finite.
    """
    try:
        arrays = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"not safetensors: {shown(str(error))}.") from error
    contents = describe(arrays)
    for name in sorted({*contents, *expected}):
        if contents.get(name) != expected.get(name):
            raise ValueError(
                f"tensor {shown(name)}: expected {shown(expected.get(name))}, "
                f"got {shown(contents.get(name))}."
            )
        if not np.isfinite(arrays[name]).all():
            raise ValueError(
                f"tensor {shown(name)}: expected finite numbers, got others."
            )
    return arrays


def encode_file(arrays: Arrays, manifest: dict[str, Any]) -> bytes:
    """One safetensors file of arrays, whose metadata is the manifest.

    Raises:
        ValueError: one of them can't be saved and loaded again.
    """
    arrays = {name: saveable(name, array) for name, array in arrays.items()}
    encoded = encode_manifest({**manifest, "tensors": describe(arrays)})
    return safetensors.numpy.save(arrays, metadata={_ENTRY: encoded.decode()})


def decode_file(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the manifest of `encode_file`'s.

    Raises:
        ValueError: it is no such file, or not as it was written.
    """
    size = int.from_bytes(content[:8], "little")
    if not 2 <= size <= min(LARGEST_HEADER, len(content) - 8):
        raise ValueError("not safetensors: it has no header.")
    try:
        manifest = json.loads(content[8 : 8 + size])["__metadata__"][_ENTRY]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("not an agent's file: its metadata says nothing.") from None
    if not isinstance(manifest, str):
        raise ValueError("not an agent's file: its metadata is no text.")
    manifest = decode_manifest(manifest)
    tensors = manifest.pop("tensors", None)
    if not isinstance(tensors, dict):
        raise ValueError(f"`tensors`: expected a dictionary, got {shown(tensors)}.")
    return decode_arrays(content, tensors), manifest
