"""Other tools' config files: Axolotl, LLaMA-Factory, TRL, Unsloth, torchtune, DeepSpeed, accelerate.

Start with :func:`peft_lab.advise.foreign.reading.read`. What each key means stands in ``keys/``, one file a tool.
"""
