"""From a request to its maps: inputs, layers, quantities, maps."""
