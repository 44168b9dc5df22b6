//! What `doctor` finds on the network: EPMD, our name, the distribution port, the configured peers, and what DNS names.

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

/// Looks at all of it; what depends on a setting that is refused is left out. `is_serving` is
/// whether a daemon runs, even if it does not answer; then only its own answers show whether it has
/// its name and port.
pub(super) async fn examine(places: &Places<'_>, is_serving: bool, running: Option<&Running>, report: &mut Report) {
    let is_silent = is_serving && running.is_none();
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
        && !is_silent
    {
        our_name(node, *explicit, names.as_deref(), running, report);
    }
    if let (Ok(listen), Ok(port)) = (places.listen(), places.dist_port())
        && !is_silent
    {
        distribution(listen, port, names.as_deref(), running, report).await;
    }
    if let (Ok(found), Some((node, _)), Some(port)) = (places.peers(), &node, epmd_port) {
        peers(found, node, port, report).await;
    }
    if let Ok(Some(name)) = places.cluster_dns() {
        dns(&name, report).await;
    }
}

/// Nodes of other hosts, and every `erl` of this one, find us by the host part.
async fn host(node: &NodeName, report: &mut Report) {
    let kind = if node.is_long() { "long" } else { "short" };
    match resolve::addresses(node.host()).await.as_deref() {
        Ok([address, ..]) => report.ok("names", format!("{node} is a {kind} name, and its host is {address}")),
        Ok([]) => unresolved(node, "it has no address", report),
        Err(error) => unresolved(node, &error.to_string(), report),
    }
}

fn unresolved(node: &NodeName, why: &str, report: &mut Report) {
    let detail = format!("the host {} does not resolve ({why}), so that no `erl` can connect to {node}", node.host());
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
                known.push(format!("{} names that no Erlang node can have", odd.len()));
            }
            let known = if known.is_empty() { "no node".to_owned() } else { known.join(", ") };
            report.ok("epmd", format!("answers at {address}{whose}, and knows {known}"));
            return Some(names);
        }
        Err(epmd::Error::Unreachable(..)) if !running => {
            report.ok("epmd", format!("none answers at {address}: the start brings one up"));
        }
        Err(error @ epmd::Error::Unreachable(..)) => {
            report.warn(
                "epmd",
                error.to_string(),
                "the daemon brings one up within seconds, else its log says why not",
            );
        }
        Err(error) => {
            report.fail("epmd", error.to_string(), "stop what listens there, or set ERL_EPMD_PORT for all nodes");
        }
    }
    None
}

/// Whether our name is ours, or free.
fn our_name(
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
        // One without a name says itself why.
        let Some(name) = running.node_name() else {
            return;
        };
        return match port(name.short_name()) {
            Some(_) => report.ok("name", format!("the daemon is {name}, and registered")),
            None => {
                let detail = format!("the daemon is {name}, and EPMD does not know it");
                report.warn("name", detail, "it registers again within seconds, else its log says why not");
            }
        };
    }
    match port(node.short_name()) {
        None => report.ok("name", format!("{node} is free")),
        Some(port) if explicit => {
            let detail = format!("{node} is taken by the node that listens on port {port}");
            report.fail("name", detail, "stop that node, or set HECATE_NODE_NAME");
        }
        Some(port) => {
            let uid = rustix::process::getuid().as_raw();
            let detail = format!("{node} is taken by the node that listens on port {port}");
            report.warn(
                "name",
                detail,
                format!("stop that node, or expect the daemon to be {}_{uid}", node.short_name()),
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
            Ok(_) => report.ok("port", format!("{shown} can be had for the distribution")),
            Err(error) => {
                let detail = format!("{shown} cannot be had for the distribution: {error}");
                report.fail("port", detail, "free it, or set HECATE_LISTEN and ERL_DIST_PORT to what can be had");
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
        Ok(()) => report.ok("port", format!("the distribution takes connections at {address}")),
        Err(why) => {
            let advice = "is HECATE_LISTEN here what the daemon has? Else restart it";
            report.fail("port", format!("the distribution takes no connection at {address}: {why}"), advice);
        }
    }
}

/// All peers at the same time: each that is not there costs its time.
async fn peers(peers: Vec<NodeName>, node: &NodeName, epmd_port: u16, report: &mut Report) {
    if peers.is_empty() {
        return report.ok("peers", "none are configured; nodes of this host are found without");
    }
    let mut asked = JoinSet::new();
    for peer in peers {
        if peer.is_mixed_with(node) {
            let detail = format!("{peer} and our {node} can never connect: short and long names do not mix");
            report.fail(
                "peers",
                detail,
                "set HECATE_HOSTNAME or the peer's name so that both hosts have a dot, or none",
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
            Ok(address) => report.ok("peers", format!("{peer} takes connections at {address}")),
            Err(why) => {
                let advice =
                    "start it, or open the way to its EPMD and distribution ports; the daemon tries again by itself";
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
            report.ok("dns", format!("{name} stands for {}: {}{more}", found.len(), nodes.join(", ")));
        }
        Err(error) => {
            let advice = "no daemon is found by it until it has; is HECATE_CLUSTER_DNS the whole name of the service?";
            report.warn("dns", format!("{name} has no address: {error}"), advice);
        }
    }
}

/// The address at which a peer takes connections, found as a node would find it.
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
                    Err(why) => format!("its port {node}, as EPMD has it, takes no connection: {why}"),
                }
            }
            Ok(None) => format!("the EPMD at {address} does not know it"),
            Err(error) => error.to_string(),
        };
    }
    Err(last)
}

async fn connect(address: SocketAddr) -> Result<(), String> {
    match timeout(beam::limits::CONNECT_TIME, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
