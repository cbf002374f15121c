"""Failures into findings into a verdict: attribution, policy, waivers, baseline, gate."""
