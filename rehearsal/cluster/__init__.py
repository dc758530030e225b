"""The Kubernetes of a rehearsal: control plane, Kyverno, nodes."""
