"""Many people on one server: joining a class (``joining``), where each learner's things lie (``places``), and the page
that the teacher shows (``shown``). Without a class nobody is asked. Who is asking: :mod:`peft_lab.core.asking`.
"""
