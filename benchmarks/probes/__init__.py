"""The parts of the benchmark of probes."""
