//! How a balloon is managed from other shells: the wire, the holder's server, the commands' client, the registry.

pub mod wire;
