"""Serve a class from one server: joining it (``joining``), each learner's folder (``places``), and the page that the
teacher shows to all. Without a class nobody has to join. The person a thread acts for: :mod:`peft_lab.core.asking`.
"""
