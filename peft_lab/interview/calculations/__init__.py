"""The calculations behind computed answers, one file per topic. Each takes a :class:`Case` and shows its working."""
