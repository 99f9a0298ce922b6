"""Readers of data sets in their own on-disk formats."""
