"""Measurements of Keel beside what users would otherwise pick; not part of the package."""
