"""Interview practice: questions (:mod:`peft_lab.interview.bank` reads them from ``content/questions``) and their
calculations, the mock interview, myths (:mod:`peft_lab.interview.claims`), the debug clinic, the guided tour, and
learners with their cards.
"""
