"""The use-cases of the user service; each is one function and one transaction."""
