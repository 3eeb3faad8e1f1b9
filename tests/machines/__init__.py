"""Runs the tests of the kernel on other kernels than this machine's."""
