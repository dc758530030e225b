"""Two ways to run the stack's program in a rehearsal: the Pulumi CLI, or the embedded applier."""
