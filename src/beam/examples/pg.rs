//! Joins the process group `workers` and follows its members. Welcomes and monitors the members on
//! peers.
//!
//! ```text
//! pg OUR_NAME@HOST COOKIE THEIR_NAME@HOST
//! ```
//!
//! ```erlang
//! pg:start_link(), pg:join(workers, self()).
//! ```

use std::collections::BTreeSet;

use beam::{Answer, Caller, GenServer, Node, Pid, RequestError, Term};

#[path = "support/mod.rs"]
mod support;

/// A process that is only a member of a group.
struct Worker;

impl GenServer for Worker {
    fn handle_call(&mut self, _request: Term, _from: &Caller) -> Answer {
        Answer::Now(Term::atom("ok"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [name, cookie, peer] = support::arguments("OUR_NAME@HOST COOKIE THEIR_NAME@HOST")?;
    let node = Node::builder(&name, &cookie).epmd_port(support::epmd_port()?).start().await?;
    let group = Term::atom("workers");
    node.process(Worker).group(group.clone()).spawn().await?;
    node.connect(&peer).await?;
    let mut members = node.members("pg", &group).await?;
    let mut before = BTreeSet::new();
    loop {
        let now: BTreeSet<Pid> = members.now().iter().cloned().collect();
        for pid in now.difference(&before).filter(|pid| pid.node != *name) {
            println!("joined: {}", pid.node);
            welcome(&node, pid).await?;
        }
        for pid in before.difference(&now) {
            println!("left: {}", pid.node);
        }
        println!("members: {}", now.len());
        before = now;
        tokio::select! {
            changed = members.changed() => changed?,
            signal = tokio::signal::ctrl_c() => {
                signal?;
                node.stop().await;
                return Ok(());
            }
        }
    }
}

/// Sends a member a message, and prints when and why it ends.
async fn welcome(node: &Node, member: &Pid) -> Result<(), RequestError> {
    let monitor = node.monitor(member.clone()).await?;
    match node.send(member.clone(), &Term::atom("welcome")).await {
        // The node of the member is no longer connected, which the monitor reports too.
        Ok(()) | Err(RequestError::Call(_)) => {}
        Err(e) => return Err(e),
    }
    tokio::spawn(async move {
        if let Ok(reason) = monitor.down().await {
            println!("down: {reason:?}");
        }
    });
    Ok(())
}
