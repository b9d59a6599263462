"""The intermediate representation: programs, operations, layers, and how graphs are run."""
