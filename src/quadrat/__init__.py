"""Quadrat: land use and its change from aerial imagery."""

__version__ = "0.1.0"
