//! From options to what the engine's mesh goes by.

use natterjack_engine::{
    ClusterLimits, ClusterLogin, ClusterSettings, Compression, Seed, WriteTimeout,
};

use super::discovery::Discovery;
use crate::configuration::host_port;
use crate::options::{self, Cluster, Options, RouteUrl};

/// What the mesh goes by; `None` if the server is in no cluster. `port` is the one that was really bound.
pub(crate) fn settings(options: &Options, port: u16) -> Option<ClusterSettings> {
    let cluster = options.cluster.as_ref()?;
    let listen = cluster.listen.as_ref()?;
    let (compression, round_trips) = compression(&cluster.compression);
    Some(ClusterSettings {
        name: cluster.name.clone().unwrap_or_default(),
        host: listen.host.clone(),
        port,
        advertise: (cluster.advertise.as_deref()).map(|text| host_port::advertised(text, port)),
        no_advertise: cluster.no_advertise,
        seeds: cluster.routes.iter().map(seed).collect(),
        login: login(cluster.user.as_ref(), cluster.password.as_ref()),
        is_known_by_certificate: (cluster.tls.as_ref())
            .is_some_and(|tls| tls.verify_and_map || tls.verify_cert_and_check_known_urls),
        import: (cluster.permissions.as_ref()).map(|permissions| permissions.publish.clone()),
        export: (cluster.permissions.as_ref()).map(|permissions| permissions.subscribe.clone()),
        pool_size: cluster.pool_size.map_or(0, u32::from),
        accounts: cluster.accounts.clone(),
        compression,
        round_trips,
        connect_retries: cluster.connect_retries,
        connect_backoff: cluster.connect_backoff,
        connect_error_reports: options.connect_error_reports,
        reconnect_error_reports: options.reconnect_error_reports,
        is_tls: cluster.tls.is_some(),
        limits: limits(cluster, options),
    })
}

fn seed(route: &RouteUrl) -> Seed {
    Seed {
        host: route.host.clone(),
        port: route.port.unwrap_or_default(),
        login: login(route.user.as_ref(), route.password.as_ref()),
        is_resolved: Discovery::is_about(route),
    }
}

fn login(
    user: Option<&String>,
    password: Option<&natterjack_engine::Secret>,
) -> Option<ClusterLogin> {
    Some(ClusterLogin {
        user: user?.clone(),
        password: password.cloned().unwrap_or_default(),
    })
}

fn limits(cluster: &Cluster, options: &Options) -> ClusterLimits {
    ClusterLimits {
        ping_interval: cluster.ping_interval,
        pings_outstanding_max: cluster.ping_max,
        write_deadline: cluster.write_deadline,
        write_timeout: write_timeout(cluster.write_timeout),
        pending_bytes_max: options.max_pending,
        interest_bytes_max: cluster.max_interest,
        auth_timeout: cluster.auth_timeout,
    }
}

fn write_timeout(configured: options::WriteTimeout) -> WriteTimeout {
    match configured {
        options::WriteTimeout::Default => WriteTimeout::Default,
        options::WriteTimeout::Close => WriteTimeout::Close,
        options::WriteTimeout::Retry => WriteTimeout::Retry,
    }
}

fn compression(configured: &options::Compression) -> (Compression, Vec<std::time::Duration>) {
    let default = || Compression::ROUND_TRIPS_DEFAULT.to_vec();
    match configured {
        options::Compression::Off => (Compression::Off, default()),
        options::Compression::Accept => (Compression::Accept, default()),
        options::Compression::S2Fast => (Compression::S2Fast, default()),
        options::Compression::S2Better => (Compression::S2Better, default()),
        options::Compression::S2Best => (Compression::S2Best, default()),
        options::Compression::S2Auto(thresholds) if thresholds.is_empty() => {
            (Compression::S2Auto, default())
        }
        options::Compression::S2Auto(thresholds) => (Compression::S2Auto, thresholds.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::options::Endpoint;

    fn options(cluster: Cluster) -> Options {
        let listen = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: 0,
        };
        Options {
            max_pending: 12_345,
            cluster: Some(Cluster {
                listen: Some(listen),
                ..cluster
            }),
            ..Options::default()
        }
    }

    fn settings(cluster: Cluster) -> ClusterSettings {
        super::settings(&options(cluster), 6222).expect("a cluster")
    }

    #[test]
    fn a_server_that_listens_for_no_routes_is_in_no_cluster() {
        let mut options = options(Cluster::default());
        options.cluster.as_mut().expect("a cluster").listen = None;
        assert_eq!(super::settings(&options, 6222), None);
        assert_eq!(super::settings(&Options::default(), 6222), None);
    }

    #[test]
    fn defaults_are_the_mesh_s() {
        let settings = settings(Cluster::default());
        let expected = ClusterSettings {
            host: "127.0.0.1".to_owned(),
            limits: ClusterLimits {
                pending_bytes_max: 12_345,
                ..ClusterLimits::default()
            },
            ..ClusterSettings::default()
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn routes_are_seeds_and_names_are_resolved() {
        let route = |host: &str, port| RouteUrl {
            host: host.to_owned(),
            port,
            user: Some("u".to_owned()),
            password: Some("p".into()),
            tls: false,
        };
        let routes = vec![
            route("10.0.0.1", Some(6222)),
            route("::1", Some(6222)),
            route("a.example.net", Some(6223)),
            route("_nats-route._tcp.example.net", None),
        ];
        let settings = settings(Cluster {
            routes,
            ..Cluster::default()
        });
        let seeds: Vec<_> = (settings.seeds.iter())
            .map(|seed| (seed.host.as_str(), seed.port, seed.is_resolved))
            .collect();
        assert_eq!(
            seeds,
            [
                ("10.0.0.1", 6222, false),
                ("::1", 6222, false),
                ("a.example.net", 6223, true),
                ("_nats-route._tcp.example.net", 0, true),
            ]
        );
        let login = settings.seeds[0].login.as_ref().expect("a login");
        assert_eq!((login.user.as_str(), login.password.expose()), ("u", "p"));
    }

    #[test]
    fn what_becomes_of_slow_routes_and_who_needs_no_password_is_handed_on() {
        assert!(!settings(Cluster::default()).is_known_by_certificate);
        let settings = settings(Cluster {
            write_timeout: options::WriteTimeout::Close,
            tls: Some(options::Tls {
                verify_and_map: true,
                ..options::Tls::default()
            }),
            ..Cluster::default()
        });
        assert_eq!(settings.limits.write_timeout, WriteTimeout::Close);
        assert!(settings.is_known_by_certificate);
    }

    #[test]
    fn thresholds_of_round_trips_are_handed_on() {
        let of = |compression| {
            let settings = settings(Cluster {
                compression,
                ..Cluster::default()
            });
            (settings.compression, settings.round_trips)
        };
        let own = vec![Duration::from_millis(5)];
        let auto = options::Compression::S2Auto;
        assert_eq!(of(auto(own.clone())), (Compression::S2Auto, own));
        let default = Compression::ROUND_TRIPS_DEFAULT.to_vec();
        assert_eq!(of(auto(Vec::new())), (Compression::S2Auto, default.clone()));
        assert_eq!(of(options::Compression::Off), (Compression::Off, default));
    }
}
