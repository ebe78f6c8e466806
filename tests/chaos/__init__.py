"""Faults injected for real: a process that is killed, a disk that is full, a neighbour that dies."""
