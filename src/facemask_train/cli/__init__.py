"""The command line: the commands, their shared options, and their output as tables, progress bars and charts."""
