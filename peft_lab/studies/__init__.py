"""Many runs together: comparisons (:mod:`peft_lab.studies.compare`), sweeps (:mod:`peft_lab.studies.sweeps`), a
method's
experiments (:mod:`peft_lab.studies.experiments`), and what is measured of finished runs (serving, blending, merging).
"""
