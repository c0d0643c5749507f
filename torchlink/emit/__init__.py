"""Emitters: one small module a target, each a pure function `LinkPlan -> str`."""
