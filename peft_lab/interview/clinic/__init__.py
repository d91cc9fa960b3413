"""Debug clinic: find out what went wrong in a fine-tune from its config, its log and its adapter folder.

``reading`` parses the files, ``features`` derives features from them, every function of ``checks`` looks for evidence,
and ``diagnose`` ranks the faults of ``faults``. ``cases`` are failures of real runs, for the Debug clinic page.
"""
