"""*Ship it*: one section a file, each with one function that draws it; ``page`` puts them together."""
