"""What goes wrong in a long run, looked for in a minute before it."""
