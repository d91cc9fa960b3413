"""Many people on one server: joining a class (``joining``), each learner's folder (``places``), and the page that the
teacher shows to all (``shown``). Without a class nobody has to join. Who is asking: :mod:`peft_lab.core.asking`.
"""
