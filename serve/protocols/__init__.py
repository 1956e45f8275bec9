"""The wire: bytes to the values of serve.types and back, for each protocol; and pictures.

Pure functions of bytes, arrays and signatures: no sockets, no HTTP headers, no models.
"""
