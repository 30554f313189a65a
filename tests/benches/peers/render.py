"""Renders a template for each phone of a list with Jinja2, so many times over; prints how long each took, and a digest of it all."""

import hashlib
import json
import sys
import time

import jinja2

template, phones, repetitions = sys.argv[1:]
environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
                                 undefined=jinja2.StrictUndefined)
with open(template, encoding="utf-8") as file:
    template = environment.from_string(file.read())
with open(phones, encoding="utf-8") as file:
    phones = json.load(file)

seconds = []
for repetition in range(int(repetitions) + 1):
    begun = time.perf_counter()
    bodies = [template.render(phone=phone).encode() for phone in phones]
    # The first is for warming up.
    if repetition:
        seconds.append(time.perf_counter() - begun)
print(json.dumps({"seconds": seconds, "digest": hashlib.sha256(b"".join(bodies)).hexdigest()}))
