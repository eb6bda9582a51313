"""The command line: parses arguments, calls the client side, prints."""
