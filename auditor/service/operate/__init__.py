"""What an operator does with an installation, beside the processes that serve it or while none does."""
