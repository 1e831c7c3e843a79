//! DHCP, client and server (RFC 2131).
