//! The two binaries as their users see them: real processes, real sockets.

mod bench;
mod bus;
mod bus_nodes;
mod bus_options;
mod bus_reload;
mod bus_routes;
mod bus_settings;
mod certs;
mod check;
mod choria;
mod choria_fleet;
mod daemon;
mod daemon_files;
mod daemon_log;
mod daemon_reload;
mod daemon_signals;
mod daemon_systemd;
mod dist;
mod messages;
mod process;
mod secrets;
mod top;
