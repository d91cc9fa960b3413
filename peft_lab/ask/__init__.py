"""Declare the settings that a person can change; everything else about a setting follows from its declaration.

A :class:`~peft_lab.ask.field.Field` is one setting: its type, range, default and help. A
:class:`~peft_lab.ask.form.Form` is a frozen dataclass of them with the rules between them; start there. From it follow
the control (``ui/components/form.py``), the address, the command's option (``cli/options.py``), the key of a sweep or a
plan file, the check, the nearest valid value, the help and the JSON schema. :mod:`~peft_lab.ask.limits` has all limits.
"""
