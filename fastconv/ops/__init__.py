"""The public functions, one module a family of operators. Each turns its arguments into a spec and runs a kernel."""
