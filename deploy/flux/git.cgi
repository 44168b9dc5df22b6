#!/bin/sh
# What stands behind /cgi-bin/git is the repository and what is asked of it (`git help http-backend`).
exec git http-backend
