"""Queue models scored against the truth of order-by-order days."""
