//! Function calls in both directions: asks a node for its OTP release, and offers `calc:add/2`.
//!
//! ```text
//! erpc OUR_NAME@HOST COOKIE THEIR_NAME@HOST
//! ```
//!
//! ```erlang
//! 5 = erpc:call('our_name@host', calc, add, [2, 3]).
//! ```

use beam::{BadArg, Node, Term};

#[path = "support/mod.rs"]
mod support;

fn add(args: &[Term]) -> Result<Term, BadArg> {
    match args {
        [Term::Int(a), Term::Int(b)] => a.checked_add(*b).map(Term::Int).ok_or(BadArg),
        // Erlang sees this as `error:badarg`.
        _ => Err(BadArg),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [name, cookie, peer] = support::arguments("OUR_NAME@HOST COOKIE THEIR_NAME@HOST")?;
    let builder = Node::builder(&name, &cookie).epmd_port(support::epmd_port()?);
    let node = builder.function("calc", "add", 2, add).start().await?;
    node.connect(&peer).await?;
    let release = node.erpc(&peer, "erlang", "system_info", [Term::atom("otp_release")]).await?;
    println!("OTP {}", text(&release));
    if let Err(e) = node.erpc(&peer, "erlang", "error", [Term::atom("oops")]).await {
        println!("{e}");
    }
    tokio::signal::ctrl_c().await?;
    node.stop().await;
    Ok(())
}

/// Returns the text of a string, which is a list of characters.
fn text(term: &Term) -> String {
    let Term::List(characters) = term else { return format!("{term:?}") };
    let character = |term: &Term| match term {
        Term::Int(code) => u32::try_from(*code).ok().and_then(char::from_u32),
        _ => None,
    };
    characters.iter().filter_map(character).collect()
}
