"""Models: their shapes, the catalogue, folders of one's own, loading, quantising, and the fetched files
(:mod:`peft_lab.models.assets`). Start with :mod:`peft_lab.models.shapes` and ``catalogue.resolve``.
"""
