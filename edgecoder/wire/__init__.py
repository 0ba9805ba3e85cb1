"""What travels on a link: messages, their bytes, and the signed envelope around them."""
