"""A local end-to-end environment: the stack's own program, run against real parts on loopback.

A *stage* is all that is started: a Kubernetes cluster and an account of Volcengine, played by an
emulator. A *stand-in* is a local process in place of Pods; the *proof* shows that images are
redirected and pulled through the proxy. README.md in this folder says what is real in it.
"""
