"""One list of what the kernel side does, for the emulated kernel and for real ones."""
