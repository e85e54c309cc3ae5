"""Builders of the assets in the package. Not part of the wheel."""
