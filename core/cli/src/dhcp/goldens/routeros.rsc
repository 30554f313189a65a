# Phones are told http://192.0.2.1:8080/, by what `provost dhcp` has written here.
# For RouterOS 7.16 or later: put the name of your DHCP server in the place of dhcp1, and paste this into a terminal. It was not tried on
# a router. Phones that only their MAC tells are given their options by their leases, so repeat the lines of /ip dhcp-server lease when
# such phones have come.
# Whose phone a client is, its option 60 tells; of those that tell nothing known there, the prefix of their MAC.
# Bolt: option 60 "AcmePhone9" is left to Acme, whose phones could not be told from these.
# Bolt: the MAC prefix 02FE12 is left to Acme, whose phones could not be told from these.
# Mute: its plugin does not say what these phones take.

/ip dhcp-server option
# Acme: option 60 "Acme, Inc. ...", option 60 "AcmePhone...", MAC 02FE12 02FE135
add name=provost-acme-160 code=160 value="'http://192.0.2.1:8080'"
add name=provost-acme-66 code=66 value="'http://192.0.2.1:8080/\$mac.cfg'"
# Acme: option 60 "acmebase..."
# option 43 holds 2 http://192.0.2.1:8080, 3 false
add name=provost-acme-2-43 code=43 value=0x0215687474703a2f2f3139322e302e322e313a38303830030100
# Bolt: MAC 02FE14
add name=provost-bolt-114 code=114 value="'http://192.0.2.1:8080/%MACD.xml'"

/ip dhcp-server option sets
add name=provost-acme options=provost-acme-160,provost-acme-66
add name=provost-acme-2 options=provost-acme-2-43
add name=provost-bolt options=provost-bolt-114

/ip dhcp-server matcher
add server=dhcp1 name=provost-acme-1 code=60 matching-type=substring value="Acme, Inc. " option-set=provost-acme
add server=dhcp1 name=provost-acme-2 code=60 matching-type=substring value="AcmePhone" option-set=provost-acme
add server=dhcp1 name=provost-acme-2-1 code=60 matching-type=substring value="acmebase" option-set=provost-acme-2

/ip dhcp-server lease
make-static [find dynamic mac-address~"^(02:FE:12|02:FE:13:50|02:FE:13:51|02:FE:13:52|02:FE:13:53|02:FE:13:54|02:FE:13:55|02:FE:13:56|02:FE:13:57|02:FE:13:58|02:FE:13:59|02:FE:13:5A|02:FE:13:5B|02:FE:13:5C|02:FE:13:5D|02:FE:13:5E|02:FE:13:5F)"]
set [find !dynamic mac-address~"^(02:FE:12|02:FE:13:50|02:FE:13:51|02:FE:13:52|02:FE:13:53|02:FE:13:54|02:FE:13:55|02:FE:13:56|02:FE:13:57|02:FE:13:58|02:FE:13:59|02:FE:13:5A|02:FE:13:5B|02:FE:13:5C|02:FE:13:5D|02:FE:13:5E|02:FE:13:5F)"] dhcp-option-set=provost-acme
make-static [find dynamic mac-address~"^(02:FE:14)"]
set [find !dynamic mac-address~"^(02:FE:14)"] dhcp-option-set=provost-bolt

# Everybody else gets nothing; to tell them too (provost dhcp --everybody):
# /ip dhcp-server option add name=provost code=66 value="'http://192.0.2.1:8080/'"
# /ip dhcp-server option sets add name=provost options=provost
# /ip dhcp-server network set [find] dhcp-option-set=provost
