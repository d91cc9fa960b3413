"""Take a trained adapter to other engines: what each does with it, and the files that it needs.

``adapter``: reads a stored adapter without its weights. ``passport``: applies the rules of ``engines.yaml`` to it.
"""
