"""The journal of a life: its format, and how a life is lived again from it."""
