//! The file that tells others where this server listens, for scripts that start it on ports of the system's choice.
//!
//! Name and contents are nats-server's: `<program>_<process id>.ports`, a JSON object with a list of URLs per kind.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Where a server listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Ports {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) nats: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) monitoring: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cluster: Vec<String>,
}

/// URLs for these addresses. One that stands for all of this machine's is replaced by them.
pub(crate) fn urls(scheme: &str, addresses: &[SocketAddr]) -> Vec<String> {
    let machine = || -> Vec<IpAddr> {
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        interfaces.iter().map(if_addrs::Interface::ip).collect()
    };
    let mut urls = Vec::new();
    for address in addresses {
        let mut ips = vec![address.ip()];
        if address.ip().is_unspecified() {
            ips = machine();
            // An IPv4 socket does not hear IPv6; the other way round it usually does.
            ips.retain(|ip| ip.is_ipv4() || address.is_ipv6());
        }
        for ip in ips {
            let url = format!("{scheme}://{}", SocketAddr::new(ip, address.port()));
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
    }
    urls
}

/// Our file. Removed when dropped.
#[derive(Debug)]
pub(crate) struct PortsFile {
    path: PathBuf,
}

impl PortsFile {
    /// Where it would be.
    pub(crate) fn path_in(folder: &Path, program: &str) -> PathBuf {
        folder.join(format!("{program}_{}.ports", std::process::id()))
    }

    /// Its name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it. Whoever waits for it finds it whole or not at all.
    pub(crate) fn write(path: PathBuf, ports: &Ports) -> io::Result<Self> {
        put(&path, ports)?;
        Ok(Self { path })
    }

    /// Writes something else into it. On an error it stays as it is.
    pub(crate) fn rewrite(&self, ports: &Ports) -> io::Result<()> {
        put(&self.path, ports)
    }
}

fn put(path: &Path, ports: &Ports) -> io::Result<()> {
    let mut draft = path.to_path_buf().into_os_string();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let text = serde_json::to_vec(ports)?;
    let written = fs::write(&draft, text).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // There may be nothing to remove.
        let _ = fs::remove_file(&draft);
    }
    written
}

impl Drop for PortsFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::error!(
                "Error cleaning up ports file {}: {error}",
                self.path.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_nats_server() {
        let folder = tempfile::tempdir().unwrap();
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let ports = Ports {
            nats: urls(
                "nats",
                &[address("127.0.0.1:39603"), address("[::1]:39603")],
            ),
            monitoring: urls("http", &[address("127.0.0.1:37439")]),
            ..Ports::default()
        };
        let path = PortsFile::path_in(folder.path(), "natterjackd");
        assert_eq!(
            path.file_name().unwrap().to_str().unwrap(),
            format!("natterjackd_{}.ports", std::process::id())
        );
        let file = PortsFile::write(path.clone(), &ports).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            r#"{"nats":["nats://127.0.0.1:39603","nats://[::1]:39603"],"monitoring":["http://127.0.0.1:37439"]}"#
        );
        let encrypted = Ports {
            nats: urls("tls", &[address("127.0.0.1:39603")]),
            ..Ports::default()
        };
        file.rewrite(&encrypted).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            r#"{"nats":["tls://127.0.0.1:39603"]}"#
        );
        drop(file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let path = PortsFile::path_in(Path::new("/nonexistent"), "natterjackd");
        assert!(PortsFile::write(path, &Ports::default()).is_err());
    }

    #[test]
    fn all_addresses_are_those_of_the_machine() {
        let any: SocketAddr = "0.0.0.0:4222".parse().unwrap();
        let urls = urls("nats", &[any, any]);
        assert!(urls.contains(&"nats://127.0.0.1:4222".into()), "{urls:?}");
        assert!(urls.iter().all(|url| !url.contains('[')), "{urls:?}");
    }
}
