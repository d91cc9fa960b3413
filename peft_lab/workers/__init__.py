"""Run child processes that hold torch, so that the web server never imports it.

``processes`` starts them, ``inspector`` puts questions to one of them, and ``pool`` spreads questions over several.
"""
