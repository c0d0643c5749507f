"""Renderers: one report object in, text or JSON out."""
