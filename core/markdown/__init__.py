"""CommonMark as models write it, and what becomes of it on every platform.

`parse` reads an answer into a tree (`tree`). `html` writes it for the web page, each module in `dialects` for one
platform. `split` cuts an answer into messages and `preview` shows one that is still being written.
"""
