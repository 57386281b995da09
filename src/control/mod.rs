//! How a balloon is managed from other shells: the wire, the holder's server, the commands' client, the registry.

pub mod client;
pub mod directory;
pub mod name;
pub mod registry;
pub mod server;
pub mod wire;
