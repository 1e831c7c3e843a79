//! The key pair of a cluster, kept in the user's configuration folder.
