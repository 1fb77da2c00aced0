"""The network run many times: on edited inputs, or above a layer on edited activations."""
