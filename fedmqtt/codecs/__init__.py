"""How a flat vector of changes becomes bytes. One file per codec, named in the offer.

Each defines

    encode(values) -> bytes-like           values: float32, shape (n,)
    decode(data, size) -> Array            float32, shape (size,); raises ValueError on other bytes
"""
