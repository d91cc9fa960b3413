"""Studies of many runs: comparisons (:mod:`peft_lab.studies.compare`), sweeps (:mod:`peft_lab.studies.sweeps`), the
methods' experiments (:mod:`peft_lab.studies.experiments`), and serving, blending and merging of finished runs."""
