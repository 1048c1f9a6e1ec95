"""What is believed only when seen on a real kernel with real guests: pytest inside the nested lab."""
