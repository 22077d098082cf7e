"""A simulated cloud: a real HTTP server that behaves as Huawei Cloud's DCS API is documented.

It checks signatures and tokens, pages and filters. `Quirks` choose the behavior that the documents
leave open, and `faults` are all known failures. The official SDK works against it unchanged.
"""
