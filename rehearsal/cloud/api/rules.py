"""The rules that the CR API enforces on names, passwords and registries, each with its source.

Of proxies of other upstreams than Docker Hub no source says more than that `DockerRegistry` is
general and needs an endpoint. Assumed, and so to be tried on Volcengine:

- an endpoint is `https://<host>`, a port allowed, nothing behind it; another is refused;
- such a registry takes any namespace, without upstream credentials too (of Docker Hub, the vendor's
  page allows `library` alone);
- its images are pulled by `<domain>/<namespace>/<name>`, so an upstream's image without a namespace
  (`registry.k8s.io/pause`) cannot be named;
- the Enterprise quota counts all registries, whatever they are proxies of.
"""

from __future__ import annotations

import base64
import re
from typing import Annotated

from pydantic import AfterValidator, Field

DEFAULT_QUOTA = {"cn-beijing": 3, "cn-guangzhou": 1, "cn-shanghai": 1}
"""Standard (Enterprise) registries per account and region (docs 6420/113745)."""
_MARKS = re.escape(r"~!@#$%^&*()-_=+\|[]:,<.>/;")
_PASSWORD = re.compile(rf"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9{_MARKS}])[A-Za-z0-9{_MARKS}]{{8,20}}")


def _decoded(encoded: str) -> str:
    password = base64.b64decode(encoded, validate=True).decode()
    if not _PASSWORD.fullmatch(password):
        raise ValueError(
            "before Base64 it must have 8 to 20 characters, upper and lower case letters, and a "
            r"digit or one of ~!@#$%^&*()-_=+\|[]:,<.>/;"
        )
    return password


RegistryName = Annotated[
    str, Field(min_length=3, max_length=30, pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$")
]
"""3 to 30 of a-z 0-9 -, no leading digit, no hyphen first or last (docs 6420/113745)."""
NamespaceName = Annotated[
    str, Field(min_length=2, max_length=90, pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*$")
]
"""2 to 90 of a-z 0-9 . _ -, no separator first, last or twice (docs 6420/113771)."""
UpstreamEndpoint = Annotated[
    str, Field(pattern=r"^https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?$")
]
"""`https://<host>[:port]`, assumed from the provider's example; see the top of this file."""
Password = Annotated[str, AfterValidator(_decoded)]
"""In Base64: 8 to 20 characters, upper and lower case, and a digit or mark (docs 6420/113750)."""
