"""A dry run before the work: findings in sentences, estimates of cost, lists of layers."""
