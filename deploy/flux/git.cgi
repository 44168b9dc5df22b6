#!/bin/sh
# The path after /cgi-bin/git names the repository and the request: see `git help http-backend`.
exec git http-backend
