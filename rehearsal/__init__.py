"""The whole stack on one machine, with no cloud account: real parts on loopback."""
