"""What other libraries take for the same gradients: one driver a library, one protocol, one environment each."""
