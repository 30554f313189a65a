#!version:1.0.0.1
include:config "y000000000183.cfg"
include:config "c4fc22aabb08.cfg"
