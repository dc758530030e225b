"""The Volcengine of a rehearsal: its API, and the registries behind it."""
