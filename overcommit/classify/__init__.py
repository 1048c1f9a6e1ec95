"""Computes idle time from windows, and hot, warm and cold memory from idle time. Pure."""
