"""Objectives of the adversarial methods, as pure functions of what networks say."""
