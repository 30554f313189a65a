#!version:1.0.0.1
include:config "y000000000146.cfg"
include:config "805e0caabb36.cfg"
