//! Everything that comes from outside: the only part that touches the network.
