"""Wires the program together: configuration, command line, HTTP server, lifetimes."""
