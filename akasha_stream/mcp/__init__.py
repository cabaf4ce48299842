"""The memory as tools of an assistant (Model Context Protocol): server.py, the tools; answers.py, what they say."""
