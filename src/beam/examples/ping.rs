//! Pings a node: connects to it and asks its `net_kernel`, as `net_adm:ping/1` does.
//!
//! ```text
//! ping OUR_NAME@HOST COOKIE THEIR_NAME@HOST
//! ```

use beam::{Atom, Node, Term};

#[path = "support/mod.rs"]
mod support;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [name, cookie, peer] = support::arguments("OUR_NAME@HOST COOKIE THEIR_NAME@HOST")?;
    let node = Node::builder(&name, &cookie).epmd_port(support::epmd_port()?).hidden().start().await?;
    node.connect(&peer).await?;
    let is_auth = Term::tuple([Term::atom("is_auth"), Atom::new(&name)?.into()]);
    let answer = node.call(&peer, "net_kernel", is_auth).await?;
    println!("{}", if answer == Term::atom("yes") { "pong" } else { "pang" });
    node.stop().await;
    Ok(())
}
