"""A server around generators: requests over HTTP in, the bytes of ``condgen sample`` out.

It stands at the top: only the command imports it. It reads no file but the models and the page that it was started with.
"""
