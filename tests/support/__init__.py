"""What tests of several folders share. Knows the product; the product knows nothing of it."""
