"""Child processes that hold torch, so that the web server never imports it: one start method (``processes``),
questions to
one process (``inspector``), and several of them as a pool (``pool``).
"""
