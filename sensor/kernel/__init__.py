"""The kernel side: the program's loader, its ring and maps, and the decoding of its records."""
