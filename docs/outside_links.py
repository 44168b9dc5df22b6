"""Preprocessor of mdBook: makes relative links to files outside docs/ absolute, so that they work in the book.

The URL of the repository is `output.html.git-repository-url`, which the Makefile sets.
"""

import json
import posixpath
import re
import sys

LINK = re.compile(r"(\]\()((?:\.\./)+[^)\s]*)")


def rewrite(value, repository):
    if isinstance(value, list):
        for item in value:
            rewrite(item, repository)
    elif isinstance(value, dict):
        if value.get("path") and "content" in value:
            folder = posixpath.join("docs", posixpath.dirname(value["path"]))

            def absolute(link):
                target = posixpath.normpath(posixpath.join(folder, link[2]))
                inside = target.startswith("docs/")
                return link[0] if inside else f"{link[1]}{repository}/blob/main/{target}"

            value["content"] = LINK.sub(absolute, value["content"])
        for item in value.values():
            rewrite(item, repository)


if sys.argv[1:2] != ["supports"]:
    context, book = json.load(sys.stdin)
    rewrite(book, context["config"]["output"]["html"]["git-repository-url"])
    json.dump(book, sys.stdout)
