"""The drawing of a block (``block``), how it moves in the browser (``living``, with its JavaScript in ``js``), and
recorded
trainings (:mod:`peft_lab.drawing.trajectory`). Start with ``block.draw_block``.
"""
