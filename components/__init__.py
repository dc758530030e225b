"""The stack's ComponentResources: one file, one component, one job. None reads config."""

PACKAGE = "vke-dockerhub-proxy"
"""The package part of every component's type token, `<package>:index:<Component>`."""
