"""An HTTP emulator of the Volcengine API actions that the stack, its provider and tests use."""
