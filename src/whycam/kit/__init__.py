"""What methods, fusions and metrics share: quantities, the registry, tensor steps, masks, statuses."""
