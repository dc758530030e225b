"""What images clusters and manifests use, and what a stack does about each: `python -m inventory`.

`clusters` and `manifests` read; `workloads` says what is kept of an object; `stack` what a stack
serves; `prediction` what will happen to an image; `answer` puts it together; `formats` writes it.
"""
