# Phones are told http://192.0.2.1:8080/, by what `provost dhcp` has written here.
# For Windows Server 2012 or later: run this in PowerShell as an administrator of the DHCP server. It was not tried on one.
# Policies are tried in their order, of which that with the smaller number stands above.
# Whose phone a client is, its option 60 tells; of those that tell nothing known there, the prefix of their MAC.
# Bolt: option 60 "AcmePhone9" is left to Acme, whose phones could not be told from these.
# Bolt: the MAC prefix 02FE12 is left to Acme, whose phones could not be told from these.
# Mute: its plugin does not say what these phones take.

Add-DhcpServerv4OptionDefinition -OptionId 114 -Name 'Provost 114' -Type String
Add-DhcpServerv4OptionDefinition -OptionId 160 -Name 'Provost 160' -Type String

# Acme: option 60 "Acme, Inc. ...", option 60 "AcmePhone...", MAC 02FE12 02FE135
Add-DhcpServerv4Class -Name 'Provost acme 1' -Type Vendor -Data 'Acme, Inc. '
Add-DhcpServerv4Class -Name 'Provost acme 2' -Type Vendor -Data 'AcmePhone'
Add-DhcpServerv4Policy -Name 'Provost acme' -Condition OR -VendorClass EQ,'Provost acme 1*','Provost acme 2*'
Set-DhcpServerv4OptionValue -PolicyName 'Provost acme' -OptionId 160 -Value 'http://192.0.2.1:8080'
Set-DhcpServerv4OptionValue -PolicyName 'Provost acme' -OptionId 66 -Value 'http://192.0.2.1:8080/$mac.cfg'

# Acme: option 60 "acmebase..."
Add-DhcpServerv4Class -Name 'Provost acme-2 1' -Type Vendor -Data 'acmebase'
Add-DhcpServerv4Policy -Name 'Provost acme-2' -Condition OR -VendorClass EQ,'Provost acme-2 1*'
Set-DhcpServerv4OptionValue -PolicyName 'Provost acme-2' -OptionId 43 -Value 0x02,0x15,0x68,0x74,0x74,0x70,0x3a,0x2f,0x2f,0x31,0x39,0x32,0x2e,0x30,0x2e,0x32,0x2e,0x31,0x3a,0x38,0x30,0x38,0x30,0x03,0x01,0x00

# Acme: option 60 "Acme, Inc. ...", option 60 "AcmePhone...", MAC 02FE12 02FE135
Add-DhcpServerv4Policy -Name 'Provost acme by MAC' -Condition OR -MacAddress EQ,'02FE12*','02FE135*'
Set-DhcpServerv4OptionValue -PolicyName 'Provost acme by MAC' -OptionId 160 -Value 'http://192.0.2.1:8080'
Set-DhcpServerv4OptionValue -PolicyName 'Provost acme by MAC' -OptionId 66 -Value 'http://192.0.2.1:8080/$mac.cfg'

# Bolt: MAC 02FE14
Add-DhcpServerv4Policy -Name 'Provost bolt by MAC' -Condition OR -MacAddress EQ,'02FE14*'
Set-DhcpServerv4OptionValue -PolicyName 'Provost bolt by MAC' -OptionId 114 -Value 'http://192.0.2.1:8080/%MACD.xml'

# Everybody else gets nothing; to tell them too (provost dhcp --everybody):
# Set-DhcpServerv4OptionValue -OptionId 66 -Value 'http://192.0.2.1:8080/'
