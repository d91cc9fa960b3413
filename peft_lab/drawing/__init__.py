"""Draw a block (``block``, start with ``block.draw_block``), animate it in the browser (``living``, with its
JavaScript in ``js``), and record trainings to play in it (:mod:`peft_lab.drawing.trajectory`)."""
