"""Many people on one server: who asks, and which part of the lab folder is theirs. Without a class nobody is asked."""
