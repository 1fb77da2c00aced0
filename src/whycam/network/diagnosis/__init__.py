"""Facts about a network, for statuses and for the doctor."""
