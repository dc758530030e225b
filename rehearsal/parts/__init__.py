"""The real parts: what is built from pinned Go modules, fetched from Debian, or found here."""
