"""What is sensitive in a text, and what stands in its place. Pure, and of no protocol."""
