"""Reads protobuf messages with the standard library alone: their fields, one level at a time."""


def read_varint(message, position):
    value, shift = 0, 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def fields(message):
    """The fields of an encoded message: number, content (None for a number), all bytes of the field."""
    position = 0
    while position < len(message):
        start = position
        tag, position = read_varint(message, position)
        wire_type, content = tag & 7, None
        if wire_type == 0:
            _, position = read_varint(message, position)
        elif wire_type == 2:
            length, position = read_varint(message, position)
            content = message[position : position + length]
            position += length
        else:
            position += {1: 8, 5: 4}[wire_type]
        yield tag >> 3, content, message[start:position]
