"""ONNX's messages, written byte by byte as Protocol Buffers encode them; the package onnx takes 36 MB to do the same.

A message is the sequence of its fields, in any order, and repeated fields are repeated. Each function names the message
it writes; the fields' numbers are those of onnx.proto: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from collections.abc import Mapping, Sequence

import numpy as np

FLOAT, INT8, INT32, INT64, BOOL, HALF, DOUBLE = 1, 3, 6, 7, 9, 10, 11  # TensorProto.DataType
EXTERNAL = 1  # TensorProto.DataLocation
INT_KIND, STRING_KIND, INTS_KIND = 2, 3, 7  # AttributeProto.AttributeType
OPSET, IR_VERSION = 17, 8  # what onnxruntime reads since 1.13


def _varint(value: int) -> bytes:
    """Return an integer in groups of 7 bits, the least first; a negative one as its 64-bit two's complement.

    >>> _varint(300).hex(), len(_varint(-1))
    ('ac02', 10)
    """
    value &= (1 << 64) - 1
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _field(number: int, *values: int | str | bytes) -> bytes:
    """Return a field, repeated for each value: an integer, or a text or message with its length before it.

    >>> _field(1, "ab", b"c").hex(" ")
    '0a 02 61 62 0a 01 63'
    """
    parts = []
    for value in values:
        if isinstance(value, int):
            parts += [_varint(number << 3), _varint(value)]
        else:
            content = value.encode() if isinstance(value, str) else value
            parts += [_varint(number << 3 | 2), _varint(len(content)), content]
    return b"".join(parts)


def _entry(key: str, value: str) -> bytes:
    """Return a StringStringEntryProto."""
    return _field(1, key) + _field(2, value)


def tensor(name: str, values: np.ndarray, is_external: bool = False) -> bytes:
    """Return a TensorProto of floats, int8 or int64 numbers; an external one leaves the numbers out."""
    kinds = {np.float16: HALF, np.float32: FLOAT, np.float64: DOUBLE, np.int8: INT8, np.int64: INT64}
    kind = kinds[values.dtype.type]
    described = _field(1, *values.shape) + _field(2, kind) + _field(8, name)
    if not is_external:
        return described + _field(9, values.astype(values.dtype.newbyteorder("<")).tobytes())
    entries = {"location": "weights", "offset": "0", "length": str(values.nbytes)}
    return described + _field(13, *(_entry(*each) for each in entries.items())) + _field(14, EXTERNAL)


def node(
    operator: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Mapping[str, int | str | Sequence[int]]
) -> bytes:
    """Return a NodeProto, named like its first output."""
    described = _field(1, *inputs) + _field(2, *outputs) + _field(3, outputs[0]) + _field(4, operator)
    return described + _field(5, *(_attribute(name, value) for name, value in attributes.items()))


def _attribute(name: str, value: int | str | Sequence[int]) -> bytes:
    """Return an AttributeProto."""
    if isinstance(value, int):
        return _field(1, name) + _field(3, value) + _field(20, INT_KIND)
    if isinstance(value, str):
        return _field(1, name) + _field(4, value) + _field(20, STRING_KIND)
    return _field(1, name) + _field(8, *value) + _field(20, INTS_KIND)


def value_info(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    """Return a ValueInfoProto of a tensor; a dimension of any length has a name."""
    dimensions = (_field(2 if isinstance(size, str) else 1, size) for size in shape)
    tensor_type = _field(1, kind) + _field(2, _field(1, *dimensions))  # TypeProto.Tensor
    return _field(1, name) + _field(2, _field(1, tensor_type))


def graph(
    name: str, nodes: Sequence[bytes], tensors: Sequence[bytes], inputs: Sequence[bytes], outputs: Sequence[bytes]
) -> bytes:
    """Return a GraphProto."""
    return _field(1, *nodes) + _field(2, name) + _field(5, *tensors) + _field(11, *inputs) + _field(12, *outputs)


def model(described: bytes) -> bytes:
    """Return a ModelProto of a graph."""
    operators = _field(1, "") + _field(2, OPSET)  # OperatorSetIdProto
    return _field(1, IR_VERSION) + _field(2, "asr") + _field(7, described) + _field(8, operators)


def note(key: str, value: str) -> bytes:
    """Return an entry of a ModelProto's metadata, to be put behind the model's other bytes."""
    return _field(14, _entry(key, value))
