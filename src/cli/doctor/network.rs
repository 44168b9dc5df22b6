//! The checks of `doctor` for the network: EPMD, the node's name, the distribution port, the
//! configured peers, and DNS.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use beam::connect::Holder;
use beam::connect::owners::owning_processes;
use beam::connect::resolve;
use beam::epmd::client as epmd;
use beam::name::NodeName;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Running;
use super::report::Report;
use crate::config::accounts;
use crate::config::{DEFAULT_NODE as NODE, Places};
use crate::escape;

/// Makes all checks, except those that depend on an invalid setting. `is_serving` is whether a
/// daemon runs. `is_mute` is whether one may run that does not answer: only its answers would show
/// whether it has its name and port.
pub(super) async fn examine(
    places: &Places<'_>,
    is_serving: bool,
    is_mute: bool,
    running: Option<&Running>,
    report: &mut Report,
) {
    let node = places.node().ok();
    if let Some((node, _)) = &node {
        host(node, report).await;
    }
    let epmd_port = places.epmd_port().ok();
    let mut names = None;
    if let Some(port) = epmd_port {
        names = epmd_of_this_host(port, is_serving || running.is_some(), report).await;
    }
    if let Some((node, explicit)) = &node
        && !is_mute
    {
        node_name(node, *explicit, names.as_deref(), running, report);
    }
    if let (Ok(listen), Ok(port)) = (places.listen(), places.dist_port())
        && !is_mute
    {
        distribution(listen, port, names.as_deref(), running, report).await;
    }
    if let (Ok(found), Some((node, _)), Some(port)) = (places.peers(), &node, epmd_port) {
        peers(found, node, port, running.is_some(), report).await;
    }
    if let Ok(Some(name)) = places.cluster_dns() {
        dns(&name, report).await;
    }
}

/// Checks that the host part of the name resolves. Other nodes need this, even nodes on this host.
async fn host(node: &NodeName, report: &mut Report) {
    let kind = if node.is_long() { "long" } else { "short" };
    match resolve::addresses(node.host()).await.as_deref() {
        Ok([address, ..]) => report.ok("names", format!("{node} is a {kind} name; its host resolves to {address}")),
        Ok([]) => unresolved(node, "it has no address", report),
        Err(error) => unresolved(node, &error.to_string(), report),
    }
}

fn unresolved(node: &NodeName, why: &str, report: &mut Report) {
    let detail = format!("the host {} does not resolve ({why}), so no node can connect to {node}", node.host());
    report.warn("names", detail, "add it to /etc/hosts, or set HECATE_HOSTNAME to a name that resolves");
}

async fn epmd_of_this_host(port: u16, running: bool, report: &mut Report) -> Option<Vec<(String, u16)>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match epmd::names(address).await {
        Ok(names) => {
            let owner = |(uid, holder): (u32, Option<Holder>)| {
                let user = accounts::user_name(uid).map(|name| format!(", {name}")).unwrap_or_default();
                let process =
                    holder.map(|Holder { pid, program }| format!(", process {pid}, {}", escape::text(&program)));
                format!("uid {uid}{user}{}", process.unwrap_or_default())
            };
            let owners: Vec<String> = owning_processes(address).into_iter().map(owner).collect();
            let whose = match owners.is_empty() {
                true => " (owner unknown)".to_owned(),
                false => format!(" (owned by {})", owners.join(" and ")),
            };
            let (valid, odd): (Vec<_>, Vec<_>) =
                names.iter().partition(|(name, _)| NodeName::new(name, "host").is_ok());
            let mut known: Vec<String> = valid.iter().map(|(name, port)| format!("{name} at {port}")).collect();
            if !odd.is_empty() {
                known.push(format!("{} invalid names", odd.len()));
            }
            let known = if known.is_empty() { "no nodes".to_owned() } else { known.join(", ") };
            report.ok("epmd", format!("answers at {address}{whose}; registered: {known}"));
            return Some(names);
        }
        Err(epmd::Error::Unreachable(..)) if !running => {
            report.ok("epmd", format!("no EPMD answers at {address}; the daemon starts one"));
        }
        Err(error @ epmd::Error::Unreachable(..)) => {
            report.warn(
                "epmd",
                error.to_string(),
                "wait a few seconds for the daemon to start one; if it does not, see its log",
            );
        }
        Err(error) => {
            report.fail(
                "epmd",
                error.to_string(),
                "stop the process that listens there, or set ERL_EPMD_PORT for all nodes",
            );
        }
    }
    None
}

/// Checks that the running daemon's name is registered, or that the name is free.
fn node_name(
    node: &NodeName,
    explicit: bool,
    names: Option<&[(String, u16)]>,
    running: Option<&Running>,
    report: &mut Report,
) {
    let Some(names) = names else {
        return;
    };
    let port = |short: &str| names.iter().find(|(name, _)| name == short).map(|(_, port)| *port);
    if let Some(running) = running {
        // A daemon without a name reports why.
        let Some(name) = running.node_name() else {
            return;
        };
        return match port(name.short_name()) {
            Some(_) => report.ok("name", format!("{name} is registered in EPMD")),
            None => {
                let detail = format!("{name} is not registered in EPMD");
                report.warn(
                    "name",
                    detail,
                    "wait a few seconds for the daemon to register; if it does not, see its log",
                );
            }
        };
    }
    match port(node.short_name()) {
        None => report.ok("name", format!("the name {node} is free")),
        Some(port) if explicit => {
            let detail = format!("{node} is in use by the node that listens on port {port}");
            report.fail("name", detail, "stop that node, or set HECATE_NODE_NAME");
        }
        Some(port) => {
            let uid = rustix::process::getuid().as_raw();
            let detail = format!("{node} is in use by the node that listens on port {port}");
            report.warn(
                "name",
                detail,
                format!("stop that node, or the daemon takes the name {}_{uid}", node.short_name()),
            );
        }
    }
}

async fn distribution(
    listen: IpAddr,
    wanted: Option<u16>,
    names: Option<&[(String, u16)]>,
    running: Option<&Running>,
    report: &mut Report,
) {
    let Some(running) = running else {
        let address = SocketAddr::new(listen, wanted.unwrap_or(0));
        let shown = wanted.map_or_else(|| format!("a port of {listen}"), |_| address.to_string());
        return match TcpListener::bind(address).await {
            Ok(_) => report.ok("port", format!("distribution port: {shown} is free")),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let detail = format!("distribution port {shown} is in use");
                report.fail("port", detail, "stop the process that uses it, or set ERL_DIST_PORT to a free port");
            }
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                let detail = format!("the address {listen} does not belong to this host");
                report.fail("port", detail, "set HECATE_LISTEN to an address of this host, or to 0.0.0.0");
            }
            Err(error) => {
                let detail = format!("cannot listen at {shown}: {error}");
                report.fail("port", detail, "set HECATE_LISTEN to an address of this host, or ERL_DIST_PORT");
            }
        };
    };
    let is_ours = |short: &str| running.node_name().is_some_and(|name| name.short_name() == short);
    let port = names.into_iter().flatten().find(|(name, _)| is_ours(name)).map(|(_, port)| *port);
    let Some(port) = port else {
        return;
    };
    let ip = if listen.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen };
    let address = SocketAddr::new(ip, port);
    match connect(address).await {
        Ok(()) => report.ok("port", format!("the distribution accepts connections at {address}")),
        Err(why) => {
            let advice = "set HECATE_LISTEN as for the daemon, or restart the daemon";
            report.fail("port", format!("the distribution does not accept connections at {address}: {why}"), advice);
        }
    }
}

/// Connects to all peers at the same time, because each unreachable one causes a timeout. A running
/// daemon may have other peers in its settings.
async fn peers(peers: Vec<NodeName>, node: &NodeName, epmd_port: u16, is_running: bool, report: &mut Report) {
    match (peers.is_empty(), is_running) {
        (true, false) => {
            return report.ok("peers", "none in the settings of this shell; a daemon finds the nodes of this host");
        }
        (true, true) => {
            let detail =
                "none in the settings of this shell; `hecate-daemon cluster` shows those of the running daemon";
            return report.ok("peers", detail);
        }
        (false, false) => {}
        (false, true) => {
            let detail = "these are from the settings of this shell; `hecate-daemon cluster` shows those of the running \
                          daemon";
            report.ok("peers", detail);
        }
    }
    let mut asked = JoinSet::new();
    for peer in peers {
        if peer.is_mixed_with(node) {
            let detail = format!("{peer} and {node} cannot connect, because one name is short and the other long");
            report.fail(
                "peers",
                detail,
                "set HECATE_HOSTNAME or the peer's name so that both hosts have a dot, or neither",
            );
            continue;
        }
        asked.spawn(async move {
            let reached = reach(&peer, epmd_port).await;
            (peer, reached)
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (peer, reached) in answers {
        match reached {
            Ok(address) => report.ok("peers", format!("{peer} accepts connections at {address}")),
            Err(why) => {
                let advice =
                    "start it, or allow connections to its EPMD and distribution ports; the daemon keeps retrying";
                report.warn("peers", format!("{peer} cannot be reached: {why}"), advice);
            }
        }
    }
}

async fn dns(name: &str, report: &mut Report) {
    match resolve::addresses(name).await {
        Ok(found) => {
            let nodes: Vec<String> =
                found.iter().take(beam::limits::ADDRESSES).map(|address| format!("{NODE}@{address}")).collect();
            let more = if found.len() > nodes.len() { ", ..." } else { "" };
            report.ok("dns", format!("{name} means {}{more}", nodes.join(", ")));
        }
        Err(error) => {
            let advice = "add an address, or set HECATE_CLUSTER_DNS to the full name of the service";
            report.warn("dns", format!("{name} has no address: {error}"), advice);
        }
    }
}

/// Returns the address at which a peer accepts connections.
async fn reach(peer: &NodeName, epmd_port: u16) -> Result<SocketAddr, String> {
    let found = resolve::addresses(peer.host()).await.map_err(|error| format!("its host does not resolve: {error}"))?;
    let mut last = "its host has no address".to_owned();
    for ip in found.into_iter().take(beam::limits::ADDRESSES) {
        let address = SocketAddr::new(ip, epmd_port);
        last = match epmd::port(address, peer.short_name()).await {
            Ok(Some(port)) => {
                let node = SocketAddr::new(address.ip(), port);
                match connect(node).await {
                    Ok(()) => return Ok(node),
                    Err(why) => format!("{node}, its address in EPMD, does not accept connections: {why}"),
                }
            }
            Ok(None) => format!("it is not registered in the EPMD at {address}"),
            Err(error) => error.to_string(),
        };
    }
    Err(last)
}

async fn connect(address: SocketAddr) -> Result<(), String> {
    match timeout(beam::limits::CONNECT_TIME, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("timed out".to_owned()),
    }
}
