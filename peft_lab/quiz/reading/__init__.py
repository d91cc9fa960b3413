"""Reading free answers: which points an answer makes, which it contradicts, and where it cannot be told."""
