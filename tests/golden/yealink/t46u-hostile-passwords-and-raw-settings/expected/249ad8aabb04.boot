#!version:1.0.0.1
include:config "y000000000108.cfg"
include:config "249ad8aabb04.cfg"
