"""The registry data plane of the rehearsal: real pull-through registries on loopback.

A pull through it takes these steps; every one of them is a real server:

    OCI client -> names.py (CONNECT) -> gate.py (TLS, login, faults, access log)
      -> distribution in proxy mode (the cache) -> recorder.py -> upstream registry ("Docker Hub")
"""
