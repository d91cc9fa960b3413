"""Debug clinic: what went wrong in a fine-tune, told from its config, its log and its adapter folder.

``reading`` takes the files in, ``features`` says what is in them, every function of ``checks`` finds evidence, and
``diagnose`` ranks the faults of ``faults``. ``cases`` are failures that were really run, for the Debug clinic page.
"""
