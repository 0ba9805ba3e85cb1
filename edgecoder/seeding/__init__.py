"""What nodes owe each other for what they give."""
